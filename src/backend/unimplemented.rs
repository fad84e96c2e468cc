//! The types that there is no code for yet: they can be defined, shown and undefined.

use super::{Backend, BackendInfo, Watch};
use crate::model::PoolType;

/// A type without code.
#[derive(Debug)]
pub(super) struct Unimplemented(&'static BackendInfo);

impl Backend for Unimplemented {
    fn info(&self) -> &'static BackendInfo {
        self.0
    }
}

const fn without_code(pool_type: PoolType) -> BackendInfo {
    BackendInfo { pool_type, implemented: false, tools: &[], operations: &[], watch: Watch::Timer }
}

static INFOS: &[BackendInfo] = &[without_code(PoolType::Vstorage)];

/// One for each such type.
pub(super) fn backends() -> impl Iterator<Item = Unimplemented> {
    INFOS.iter().map(Unimplemented)
}
