//! What a job needs of a region's brokers: paths to each, topics, rights, quotas. Nothing is created or written.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::context::Context;
use crate::error::Result;
use crate::job::Cleanup;
use crate::kafka::{Cluster, IfMissing, KafkaTransport, ProduceOptions, Wish};
use crate::session::Session;
use crate::store::Role;

use super::registry::uninterrupted;
use super::{Findings, Kind, Need, Outcome};

/// How long a broker may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(3);

pub async fn needs(
    session: &Session,
    region: &str,
    remote: bool,
    ctx: &Context,
) -> Result<Vec<Need>> {
    let mut found = Findings::new(Some(region));
    let cluster = session.cluster(region)?;
    let servers = &cluster.region.bootstrap_servers;
    let contact = cluster.blocking(|c| Ok(format!("cluster {}", c.contact()?)));
    if !found.tried(Kind::Network, format!("Kafka at {servers}"), contact.await) {
        return Ok(found.needs);
    }
    match cluster.blocking(Cluster::brokers).await {
        Err(error) => {
            found.tried(Kind::Network, "the brokers' own addresses", Err(error));
        }
        Ok(brokers) => {
            for (host, port) in brokers {
                let what = format!("broker {host}:{port}, as the cluster tells it");
                let tried = tokio::task::spawn_blocking(move || connect(&host, port));
                let tried = tried.await.map_err(|e| cluster.error("connect", e))?;
                match tried {
                    Ok(()) => found.note(Kind::Network, what, Outcome::Ok, "accepts connections"),
                    Err(why) => found.note(Kind::Network, what, Outcome::Failed, why),
                }
            }
        }
    }
    let roles = Role::ALL
        .into_iter()
        .chain(remote.then_some(Role::Receipts));
    for role in roles {
        ctx.check("doctor")?;
        topic(session, &cluster, role, &mut found).await;
    }
    group(session, &cluster, &mut found).await;
    let file = &session.job.file;
    if file.topics.transactional || file.service.transactional {
        transactions(session, &cluster, ctx, &mut found).await?;
    }
    let limits = &session.job.file.limits;
    let rate = match limits.max_rows_per_s {
        Some(rows) => format!("{rows} rows a second (limits.max_rows_per_s)"),
        None => "as much as it can send (no limits.max_rows_per_s)".to_owned(),
    };
    found.note(
        Kind::Quota,
        format!("a producer_byte_rate for {rate}, times the bytes of a row that `kappaflow publish --dry-run` tells"),
        Outcome::Unknown,
        "brokers don't tell clients their quotas: ask `kafka-configs.sh --describe --entity-type users`; one that is too low shows as limit = \"broker\" in the receipt",
    );
    Ok(found.needs)
}

fn connect(host: &str, port: u16) -> Result<(), String> {
    let addresses = (host, port)
        .to_socket_addrs()
        .map_err(|e| format!("its name is not known here: {e}"))?;
    let mut why = "its name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(_) => return Ok(()),
            Err(e) => why = format!("no connection: {e}; is advertised.listeners right for here?"),
        }
    }
    Err(why)
}

/// What is done with a topic: by the publisher, the workers, the landers, reconcile.
fn operations(role: Role, cleanup: Cleanup) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![
        ("DESCRIBE", "to find it"),
        ("READ", "to read it, and to read back"),
    ];
    all.push(match role {
        Role::Ingress => ("WRITE", "to publish"),
        Role::Egress => ("WRITE", "for answers"),
        Role::Verdict => ("WRITE", "for verdicts"),
        Role::Receipts => ("WRITE", "to publish from other processes"),
        Role::Deadletter => ("WRITE", "for rejects and dead letters"),
    });
    if role == Role::Ingress && cleanup != Cleanup::Keep {
        all.push(("DELETE", "for topics.cleanup"));
    }
    all
}

async fn topic(session: &Session, cluster: &Cluster, role: Role, found: &mut Findings) {
    let topics = &session.job.file.topics;
    let name = session.topic_name(&cluster.region.name, role);
    let mut wish = Wish::of(topics, session.job.file.limits.job_deadline_ms);
    wish.own_times = role == Role::Ingress && topics.timestamp_column.is_some();
    let asked = name.clone();
    let facts = match cluster.blocking(move |c| c.topic(&asked)).await {
        Ok(facts) => facts,
        Err(error) => {
            found.tried(Kind::Topic, format!("topic {name}"), Err(error));
            return;
        }
    };
    let needed = operations(role, topics.cleanup);
    let Some(facts) = facts else {
        if session.removed(&cluster.region.name, role).await {
            let told = "was deleted when all was explained (topics.cleanup)";
            found.note(Kind::Topic, format!("topic {name}"), Outcome::Ok, told);
            return;
        }
        let may = match &wish.if_missing {
            IfMissing::Create => cluster.may_create(&name, &wish).await,
            IfMissing::Refuse(reason) => {
                let told = reason.clone();
                found.note(Kind::Topic, format!("topic {name}"), Outcome::Failed, told);
                return;
            }
        };
        let told = may.map(|()| "is not there, and may be created".to_owned());
        found.tried(
            Kind::Topic,
            format!("topic {name}, or the right to CREATE it"),
            told,
        );
        for (operation, why) in needed {
            let what = format!("{operation} on topic {name}, {why}");
            let told = "brokers tell rights of topics that are there: dispatch, then ask again";
            found.note(Kind::Right, what, Outcome::Unknown, told);
        }
        return;
    };
    let options = cluster.topic_options(&name).await;
    let (outcome, told) = match wish.wrong(&facts, &options) {
        Some(reason) => (Outcome::Failed, reason),
        None if options.is_empty() => (
            Outcome::Unknown,
            "its options may not be read (DESCRIBE_CONFIGS), so they can't be checked".to_owned(),
        ),
        None => (
            Outcome::Ok,
            format!(
                "{} partitions, {} replicas",
                facts.partitions, facts.replication
            ),
        ),
    };
    found.note(Kind::Topic, format!("topic {name}"), outcome, told);
    for (operation, why) in needed {
        let what = format!("{operation} on topic {name}, {why}");
        allowed(found, what, operation, &facts.operations);
    }
}

fn allowed(found: &mut Findings, what: String, operation: &str, operations: &[String]) {
    let (outcome, told) = if operations.iter().any(|o| o == operation) {
        (Outcome::Ok, "the broker says yes".to_owned())
    } else {
        (
            Outcome::Failed,
            format!(
                "the broker allows only {}: add an ACL",
                operations.join(", ")
            ),
        )
    };
    found.note(Kind::Right, what, outcome, told);
}

async fn group(session: &Session, cluster: &Cluster, found: &mut Findings) {
    let group = session.group(&cluster.region.name);
    let what = |operation: &str| format!("{operation} on group {group}, for the workers");
    let asked = group.clone();
    match cluster.blocking(move |c| c.group_operations(&asked)).await {
        Ok(operations) if operations.is_empty() => {
            let told = "the broker does not tell rights of groups";
            found.note(Kind::Right, what("READ"), Outcome::Unknown, told);
        }
        Ok(operations) => allowed(found, what("READ"), "READ", &operations),
        Err(error) => {
            found.tried(Kind::Right, what("READ and DESCRIBE"), Err(error));
        }
    }
}

/// Takes a name that no publisher and no worker uses, beside those that they do.
async fn transactions(
    session: &Session,
    cluster: &Cluster,
    ctx: &Context,
    found: &mut Findings,
) -> Result<()> {
    let prefix = session.group(&cluster.region.name);
    let topic = session.topic_name(&cluster.region.name, Role::Ingress);
    let (id, ctx) = (format!("{prefix}.doctor"), ctx.clone());
    let tried = cluster.blocking(move |cluster| {
        let none = std::collections::BTreeMap::new();
        let mut options = ProduceOptions::new(&topic, &none, "none", 1, cluster.timeout());
        options.transactional_id = Some(id.clone());
        KafkaTransport::new(cluster, &options, &ctx)?;
        Ok(format!("{id} could be taken"))
    });
    let tried = uninterrupted(tried.await)?;
    let what = format!("WRITE and DESCRIBE on transactional ids {prefix}.*");
    found.tried(Kind::Right, what, tried);
    Ok(())
}
