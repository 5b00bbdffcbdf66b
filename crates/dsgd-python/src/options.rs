//! Options of a script as a task.

use std::collections::BTreeMap;

use dsgd::{DataFile, TaskResult};
use serde::{Deserialize, Serialize};

/// Options of the task.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub struct Options {
    /// Python file with a task: a class derived from dsgd.Task or dsgd.torch.Torch
    #[arg(value_name = "SCRIPT.py")]
    pub script: String,
    /// Option of the task's own, such as hidden=256; may be repeated. --hidden 256 is the same
    #[arg(short = 'o', long, value_name = "NAME=VALUE")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    /// Python that runs it, here and on hosts [default: the one that called dsgd, that of the virtual environment, else python3]
    #[arg(long, value_name = "PATH")]
    pub python: Option<String>,
    /// Make an environment on hosts from this file, once: requirements.txt, pyproject.toml or uv.lock; needs uv here or there
    #[arg(long, value_name = "FILE")]
    pub env: Option<DataFile>,
    /// … from the wheels in this folder, which travel, instead of an index
    #[arg(long, value_name = "DIR", requires = "env")]
    pub wheels: Option<String>,
    /// Which class of the script, where it has several
    #[arg(long, value_name = "NAME")]
    pub class: Option<String>,
    /// Modules that the script consists of, for workers elsewhere
    #[arg(long, hide = true)]
    pub code: Option<DataFile>,
    /// Files that its own options name, for workers elsewhere
    #[arg(long, hide = true)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<DataFile>,
    /// Names of those options
    #[arg(long, hide = true)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_options: Vec<String>,
    /// The Python of the server's machine
    #[arg(long, hide = true)]
    pub interpreter: Option<String>,
    /// Modules that a Python must have
    #[arg(long, hide = true)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// The wheels
    #[arg(long, hide = true)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wheel_files: Vec<DataFile>,
    /// uv, for hosts that have none
    #[arg(long, hide = true)]
    pub uv: Option<DataFile>,
    /// Names of the task's metrics
    #[arg(long, hide = true)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<String>,
}

impl Options {
    /// Values of the task's own options, as they were typed.
    pub(crate) fn values(&self) -> TaskResult<BTreeMap<String, String>> {
        let pair = |text: &String| {
            let (name, value) = text
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| format!("--set {text}: write NAME=VALUE"))?;
            Ok((name.replace('-', "_"), value.to_owned()))
        };
        let mut values: BTreeMap<_, _> = self.set.iter().map(pair).collect::<TaskResult<_>>()?;
        let files = self.file_options.iter().zip(&self.files);
        values.extend(files.map(|(name, file)| (name.clone(), file.display().to_string())));
        Ok(values)
    }
}
