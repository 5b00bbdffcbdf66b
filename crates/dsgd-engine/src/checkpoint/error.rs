//! What can go wrong with a checkpoint, and what to do about it.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use dsgd_core::params::Layout;

/// What can go wrong with a checkpoint: a variant for each thing a caller can act on.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Saving: no space, or no quota, is left.
    #[error(
        "cannot write {path}: {cause}; free space, or pass --run-dir on another disk; {previous}"
    )]
    DiskFull {
        /// The file that was to be.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
        /// What there is to go back to.
        previous: Previous,
    },
    /// Saving: the folder is not there, is read-only or is someone else's.
    #[error(
        "cannot write {path}: {cause}; make the folder writable, or pass another --run-dir; \
         {previous}"
    )]
    Forbidden {
        /// The file that was to be.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
        /// What there is to go back to.
        previous: Previous,
    },
    /// Saving or removing failed otherwise.
    #[error(
        "cannot write {path}: {cause}; try again, or pass --run-dir on another disk; {previous}"
    )]
    Write {
        /// The file that was to be.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
        /// What there is to go back to.
        previous: Previous,
    },
    /// Saving: the state has no JSON form.
    #[error("cannot write {path}: the state of the run has no JSON form: {reason}")]
    Encode {
        /// The file that was to be.
        path: PathBuf,
        /// What the encoder said.
        reason: String,
    },
    /// Loading: there is no such file.
    #[error("there is no checkpoint {path}; give the .safetensors file of one")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Loading: the system would not read it.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Loading: it is cut short, or was never a checkpoint.
    #[error("{path} is not a whole safetensors file: {reason}; use another checkpoint")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Loading: it is not what was written.
    #[error("{path} is damaged: its checksum does not fit its contents; use another checkpoint")]
    Corrupt {
        /// The file.
        path: PathBuf,
    },
    /// Loading: weights and state are of two different saves.
    #[error("{weights} and {state} are not of the same save; use another checkpoint")]
    Torn {
        /// The file with the weights.
        weights: PathBuf,
        /// The file with the state.
        state: PathBuf,
    },
    /// Loading: the weights are there but not the state.
    #[error("{path} has weights only, {state} is missing: fit to be used, not to be resumed")]
    NoState {
        /// The file with the weights.
        path: PathBuf,
        /// The file that is missing.
        state: PathBuf,
    },
    /// Loading: the state is not what this program keeps.
    #[error("{path} was written by another version of this program: {reason}")]
    State {
        /// The file with the state.
        path: PathBuf,
        /// What the decoder said.
        reason: String,
    },
    /// Saving or loading: a weight is not a number, or infinite.
    #[error(
        "{path}: weight {index} of tensor {tensor} is {value}: training has diverged; go back to \
         an earlier checkpoint with a lower learning rate"
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Which of its elements, row-major.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// Loading: another type of numbers than `F32`.
    #[error("{path}: tensor {tensor} is {found}, only F32 is read; convert the file")]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// Loading: a tensor has another shape than the model's.
    #[error(
        "{path} is of another model: tensor {tensor} has shape {found:?}, the model wants {wanted:?}"
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape there.
        found: Vec<usize>,
        /// The model's.
        wanted: Vec<usize>,
    },
    /// Loading: the model has a tensor that the file has not.
    #[error("{path} is of another model: it has no tensor {tensor}")]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// Loading: the file has a tensor that the model has not.
    #[error("{path} is of another model, which has no tensor {tensor}")]
    ExtraTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
}

impl CheckpointError {
    /// Whether this one checkpoint is unfit, so that an earlier one of the same run may be
    /// used instead. Otherwise an earlier one would fail for the same reason.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Missing { .. }
            | Self::Read { .. }
            | Self::Malformed { .. }
            | Self::Corrupt { .. }
            | Self::Torn { .. }
            | Self::NoState { .. }
            | Self::NotFinite { .. } => true,
            Self::DiskFull { .. }
            | Self::Forbidden { .. }
            | Self::Write { .. }
            | Self::Encode { .. }
            | Self::State { .. }
            | Self::Dtype { .. }
            | Self::Shape { .. }
            | Self::MissingTensor { .. }
            | Self::ExtraTensor { .. } => false,
        }
    }
}

/// The newest checkpoint that was there before, if any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Previous(pub Option<PathBuf>);

impl fmt::Display for Previous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(path) => write!(f, "the previous checkpoint {} is intact", path.display()),
            None => write!(f, "there is no earlier checkpoint"),
        }
    }
}

/// The error for a file that could not be written.
pub(super) fn write_failed(
    path: PathBuf,
    cause: io::Error,
    previous: Option<PathBuf>,
) -> CheckpointError {
    let previous = Previous(previous);
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            CheckpointError::DiskFull {
                path,
                cause,
                previous,
            }
        }
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotFound
        | ErrorKind::NotADirectory => CheckpointError::Forbidden {
            path,
            cause,
            previous,
        },
        _ => CheckpointError::Write {
            path,
            cause,
            previous,
        },
    }
}

/// Names the first weight that is not a finite number.
pub(super) fn check_finite(
    path: &Path,
    layout: &Layout,
    flat: &[f32],
) -> Result<(), CheckpointError> {
    for tensor in layout.tensors() {
        let values = &flat[tensor.range.clone()];
        if let Some(index) = values.iter().position(|v| !v.is_finite()) {
            return Err(CheckpointError::NotFinite {
                path: path.to_path_buf(),
                tensor: tensor.name.clone(),
                index,
                value: values[index],
            });
        }
    }
    Ok(())
}
