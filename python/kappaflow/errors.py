"""The exceptions of KappaFlow, one family."""


class KappaFlowError(Exception):
    """Base of every error that KappaFlow raises on purpose; its text says what happened and what to do."""


class DevStackError(KappaFlowError):
    """The dev stack could not do what was asked: no Java, no jars, a port that is taken, a Kafka that died."""
