"""The exceptions of KappaFlow, one family: `except KappaFlowError` catches them all."""


class KappaFlowError(Exception):
    """Base of every error that KappaFlow raises on purpose; its text says what happened and what to do."""

    kind = "error"


class JobFileError(KappaFlowError):
    """The job file can't be used; the text names the key, the value and what is allowed."""

    kind = "job_file"


class SourceError(KappaFlowError):
    """A source file can't be read as what it should be."""

    kind = "source"


class SourceChangedError(SourceError):
    """A source file is no longer what was pinned when the job was planned."""

    kind = "source_changed"


class SchemaError(KappaFlowError):
    """An Avro schema can't be used."""

    kind = "schema"


class PlanError(SchemaError):
    """The columns of the source can't become the fields of the schema."""

    kind = "plan"


class EncodeError(KappaFlowError):
    """A batch as a whole can't be encoded; a row that can't is no error but a reject."""

    kind = "encode"


class DecodeError(KappaFlowError):
    """Bytes that are no value of the schema, or a schema that no Arrow column is made of."""

    kind = "decode"


class FrameError(DecodeError):
    """A message doesn't carry the schema id that it should."""

    kind = "frame"


class RegistryError(KappaFlowError):
    """The schema registry could not be reached; trying later may help."""

    kind = "registry"


class RegistrySettingsError(RegistryError):
    """The settings of the schema registry can't be used: a URL, a certificate, a reference to a secret."""

    kind = "registry_settings"


class NotARegistryError(RegistryError):
    """Something answers at the schema registry's URL, and not as one."""

    kind = "not_a_registry"


class RegistryDeniedError(RegistryError):
    """Wrong or missing credentials, or too few rights at the schema registry."""

    kind = "registry_denied"


class RegistryNotFoundError(RegistryError):
    """The schema registry has no such subject, version or schema."""

    kind = "registry_not_found"


class RegistryRefusedError(RegistryError):
    """The schema registry understood, and refused."""

    kind = "registry_refused"


class RegistryUnusableError(RegistryError):
    """What the schema registry has is of no use here: a schema that is not Avro, one whose references don't fit."""

    kind = "registry_unusable"


class IncompatibleSchemaError(RegistryError):
    """The schema breaks the compatibility rule of its subject; nothing was sent."""

    kind = "incompatible"


class KafkaError(KappaFlowError):
    """A cluster could not be reached or refused a request."""

    kind = "kafka"


class TopicError(KafkaError):
    """A topic is not what the job needs."""

    kind = "topic"


class PublishError(KafkaError):
    """A publish that could not account for every row; run it again and only the rest is sent."""

    kind = "publish"


class NoConsumerError(PublishError):
    """Nobody took what was published, though it must not get further ahead (`limits.max_lag_*`)."""

    kind = "no_consumer"


class TooManyRejectsError(KappaFlowError):
    """More rows were rejected than `limits.max_rejects` allows."""

    kind = "too_many_rejects"


class TooManyDeadLettersError(KappaFlowError):
    """More egress records can't be landed than `output.max_dead_letters` allows."""

    kind = "too_many_dead_letters"


class ServiceError(KappaFlowError):
    """The service could not be started or used."""

    kind = "service"


class ListenError(KappaFlowError):
    """A worker can't listen for metrics and probes where it was told to."""

    kind = "listen"


class SampleError(KappaFlowError):
    """Too many rows of a sample failed; the whole has not begun."""

    kind = "sample"


class TableError(KappaFlowError):
    """The landed table refused a commit or can't be read."""

    kind = "table"


class FencedError(TableError):
    """Another lander committed first, or a newer placement of a child job holds the table."""

    kind = "fenced"


class NotReadyError(KappaFlowError):
    """An earlier stage has not been done yet."""

    kind = "not_ready"


class NoHeadroomError(KappaFlowError):
    """No region has room for a child job."""

    kind = "no_headroom"


class UnexplainedError(KappaFlowError):
    """Rows without a fate, or doubled in the table."""

    kind = "unexplained"


class FleetError(KappaFlowError):
    """A fleet has given a job up."""

    kind = "fleet"


class CancelledError(KappaFlowError):
    """A job was taken back from the fleet that worked on it; what was done is kept."""

    kind = "cancelled"


class StoreError(KappaFlowError):
    """The store could not be opened, read or written."""

    kind = "store"


class FileError(KappaFlowError):
    """A file operation failed."""

    kind = "io"


class StoppedError(KappaFlowError):
    """The caller asked to stop; what was done is kept."""

    kind = "interrupted"


class ForkedError(KappaFlowError):
    """Used in a child process that was forked after the parent had used KappaFlow."""

    kind = "forked"


class DevStackError(KappaFlowError):
    """The dev stack could not do what was asked: no Java, no jars, a taken port, a Kafka that died."""

    kind = "dev_stack"


def of_kind(kind: str, message: str) -> KappaFlowError:
    """The exception of a kind, as the extension module names it; an unknown kind is the base class."""

    def search(cls: type[KappaFlowError]) -> type[KappaFlowError] | None:
        if cls.kind == kind:
            return cls
        return next((hit for sub in cls.__subclasses__() if (hit := search(sub))), None)

    return (search(KappaFlowError) or KappaFlowError)(message)
