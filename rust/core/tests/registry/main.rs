//! The client of a schema registry: against a real one (`KAPPAFLOW_TEST_REGISTRY`), and against servers that fail in
//! ways that a real one can't be made to.

mod faults;
mod real;
mod server;
mod signing;
mod tls;

use std::path::Path;
use std::sync::Arc;

use kappaflow_core::registry::{
    self, RegistryConfig, RegistryError, RegistryTable, SchemaRegistry, SchemaText,
};

/// A record of one int, in JSON.
fn record(name: &str, fields: &str) -> SchemaText {
    SchemaText::whole(format!(
        r#"{{"type":"record","name":"{name}","namespace":"kf.test","fields":[{fields}]}}"#
    ))
}

fn one_int(name: &str) -> SchemaText {
    record(name, r#"{"name":"x","type":"int"}"#)
}

fn table(urls: &[&str]) -> RegistryTable {
    RegistryTable::of_urls(urls.iter().map(|u| (*u).to_owned()).collect())
}

fn open(table: RegistryTable) -> Result<Arc<dyn SchemaRegistry>, RegistryError> {
    registry::open(&RegistryConfig::Table(Box::new(table)), Path::new("/"))
}

/// Calls block: they are made where they may.
async fn asked<T: Send + 'static>(
    registry: &Arc<dyn SchemaRegistry>,
    call: impl FnOnce(&dyn SchemaRegistry) -> T + Send + 'static,
) -> T {
    let registry = Arc::clone(registry);
    tokio::task::spawn_blocking(move || call(registry.as_ref()))
        .await
        .unwrap()
}
