//! Records of tree `Rev`: from stored bytes to what they say, or to an error that names the place.
//!
//! Everything that reads history goes through here, so that damage is told in one way.

use crate::error::StoreError;
use crate::kv_codec::KeyValue;
use crate::revision::{RevKey, Revision};
use crate::trees::{TreeId, Trees};

/// Reads the pair stored at a revision which the index says exists.
pub(crate) fn pair<T: Trees>(trees: &T, revision: Revision) -> Result<&[u8], StoreError> {
    trees.get(TreeId::Rev, &RevKey::put(revision))?.ok_or(StoreError::Missing { revision })
}

/// Decodes a pair stored at a revision.
pub(crate) fn decode(bytes: &[u8], revision: Revision) -> Result<KeyValue<'_>, StoreError> {
    KeyValue::decode(bytes).map_err(|source| StoreError::Pair { revision, source })
}

/// Decodes an entry of tree `Rev`.
pub(crate) fn parse_record<'a>(key: &[u8], value: &'a [u8]) -> Result<(Revision, bool, KeyValue<'a>), StoreError> {
    let Some((revision, is_tombstone)) = RevKey::parse(key) else {
        return Err(record_error(TreeId::Rev, key, "not a revision"));
    };
    let pair = decode(value, revision)?;
    if !is_tombstone && pair.version < 1 {
        return Err(record_error(TreeId::Rev, key, "a pair without a version"));
    }
    Ok((revision, is_tombstone, pair))
}

/// What is said of a stored value that cannot be one.
pub(crate) fn record_error(tree: TreeId, key: &[u8], detail: &'static str) -> StoreError {
    StoreError::Record { tree: tree.name(), key: key.to_vec(), detail }
}
