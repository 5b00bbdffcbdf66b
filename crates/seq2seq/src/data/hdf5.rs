//! stub
use super::*;
use std::path::Path;
/// stub
pub fn read(_p: &Path) -> Result<Dataset, DataError> {
    todo!()
}
