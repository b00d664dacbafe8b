//! An instance in JSON, as files and Redis hold it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::instance::{Instance, InvalidInstance};

/// The fields of an instance, not checked yet.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    id: String,
    address: String,
    #[serde(default = "one")]
    weight: u16,
    #[serde(default)]
    priority: u8,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

fn one() -> u16 {
    1
}

impl TryFrom<Written> for Instance {
    type Error = InvalidInstance;

    fn try_from(written: Written) -> Result<Self, InvalidInstance> {
        let Written { id, address, weight, priority, metadata } = written;
        let instance = Self { id: id.into(), address: address.into(), weight, priority, metadata };
        instance.validate().map(|()| instance)
    }
}

impl From<Instance> for Written {
    fn from(instance: Instance) -> Self {
        let Instance { id, address, weight, priority, metadata } = instance;
        let text = |it: Arc<str>| it.as_ref().to_owned();
        Self { id: text(id), address: text(address), weight, priority, metadata }
    }
}
