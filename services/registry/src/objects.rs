//! What lies below a prefix in the store, with its locks, as the store says it now.

use caselock_store::{Lock, Store};

use crate::RegistryError;

/// A key that has a version with data.
#[derive(Debug, Clone)]
pub struct Object {
    /// The key.
    pub key: String,
    /// The oldest version with data: the object.
    pub version: String,
    /// What protects it.
    pub lock: Lock,
    /// Delete markers that hide it.
    pub markers: Vec<String>,
    /// Further versions with data, which nothing here makes.
    pub others: Vec<String>,
}

/// Everything below a prefix, in the order of keys. Few: what lies beside one recording, or the record of one case.
pub async fn below(store: &dyn Store, prefix: &str) -> Result<Vec<Object>, RegistryError> {
    let (mut objects, mut after) = (Vec::new(), None);
    loop {
        let page = store.keys(prefix, after.as_deref()).await?;
        for key in &page.keys {
            let (markers, data): (Vec<_>, Vec<_>) =
                store.versions(key).await?.into_iter().partition(|version| version.is_delete_marker);
            let mut data = data.into_iter().map(|version| version.id);
            let Some(version) = data.next() else { continue };
            let lock = store.lock(key, &version).await?;
            let markers = markers.into_iter().map(|marker| marker.id).collect();
            objects.push(Object { key: key.clone(), version, lock, markers, others: data.collect() });
        }
        match page.keys.into_iter().next_back().filter(|_| page.more) {
            Some(last) => after = Some(last),
            None => return Ok(objects),
        }
    }
}
