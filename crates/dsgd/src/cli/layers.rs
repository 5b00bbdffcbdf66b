//! Where an option's value comes from: the command line, a file, the task, the library.
//!
//! They lie on each other in this order, the first that says something wins. Names in files
//! are those of the options with underscores.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Table;

use dsgd_engine::config::RunConfig;
use dsgd_engine::run::CONFIG;

/// Table of a configuration file with the library's own options.
const RUN: &str = "run";
/// Table of a configuration file with the task's options.
const OPTIONS: &str = "options";

/// A configuration file: which task, and a table for each struct of options.
#[derive(Clone, Debug, Default)]
pub(super) struct ConfigFile {
    pub(super) run: Table,
    pub(super) options: Table,
}

/// Reads a `config.toml`.
pub(super) fn read(path: &Path) -> anyhow::Result<ConfigFile> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text, path)
}

/// Reads the text of a `config.toml`.
pub(super) fn parse(text: &str, path: &Path) -> anyhow::Result<ConfigFile> {
    let mut table = table(text, path)?;
    let mut take = |name: &str| match table.remove(name) {
        None => Ok(Table::new()),
        Some(toml::Value::Table(table)) => Ok(table),
        Some(_) => bail!("{}: {name} must be a table", path.display()),
    };
    let (run, options) = (take(RUN)?, take(OPTIONS)?);
    if let Some(key) = table.keys().find(|&key| key != "task") {
        bail!(
            "{}: unknown key {key:?}; it may hold task, [{RUN}] and [{OPTIONS}]",
            path.display()
        );
    }
    Ok(ConfigFile { run, options })
}

/// The task that a `config.toml` names.
pub(super) fn task_in(path: &Path) -> anyhow::Result<String> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    match table(&text, path)?.get("task") {
        Some(toml::Value::String(task)) => Ok(task.clone()),
        _ => bail!("{}: has no line task = \"…\"", path.display()),
    }
}

/// The library's own options of the run in that folder.
pub(super) fn run_config(folder: &Path) -> anyhow::Result<RunConfig> {
    let file = folder.join(CONFIG);
    if !file.is_file() {
        bail!("{} is not a run: it has no {CONFIG}", folder.display());
    }
    let in_file = || file.display().to_string();
    merge(&nothing_typed::<RunConfig>(), &read(&file)?.run, None).with_context(in_file)
}

/// The text of a `config.toml`.
pub(super) fn write(
    task: &str,
    run: &impl Serialize,
    options: &impl Serialize,
) -> anyhow::Result<String> {
    let run = toml::to_string(run)?;
    let options = toml::to_string(options)?;
    Ok(format!(
        "# What this run was started with; --config takes this file.\n\
         task = {task:?}\n\n[{RUN}]\n{run}\n[{OPTIONS}]\n{options}"
    ))
}

fn table(text: &str, path: &Path) -> anyhow::Result<Table> {
    text.parse()
        .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

/// Puts the layers on each other.
pub(super) fn merge<C>(
    typed: &ArgMatches,
    file: &Table,
    task: Option<&ArgMatches>,
) -> anyhow::Result<C>
where
    C: Args + Serialize + DeserializeOwned,
{
    let mut values = serde_json::to_value(completed::<C>(typed, file)?)?;
    let task_values = task.map(C::from_arg_matches).transpose()?;
    let task_values = serde_json::to_value(task_values)?;
    let ids = ids::<C>();
    if let Some(key) = file.keys().find(|key| !ids.contains(key)) {
        bail!("unknown option {key:?}");
    }
    for id in ids {
        if is_typed(typed, &id) {
            // JSON has no word for infinity or NaN; what is typed to be none is not there.
            if values.get(&id).is_some_and(Value::is_null) {
                bail!("--{}: must be a finite number", id.replace('_', "-"));
            }
            continue;
        }
        if let Some(value) = file.get(&id) {
            values[&id] = serde_json::to_value(value)?;
            if values[&id].is_null() {
                bail!("{id} = {value}: must be a finite number");
            }
        } else if task.is_some_and(|task| is_typed(task, &id)) {
            values[&id] = task_values.get(&id).cloned().unwrap_or(Value::Null);
        }
    }
    Ok(serde_json::from_value(values)?)
}

/// What is typed; where the file says what must be given, it need not be typed.
fn completed<C: Args>(typed: &ArgMatches, file: &Table) -> anyhow::Result<C> {
    let command = C::augment_args(Command::new(""));
    let required = command.get_arguments().filter(|arg| arg.is_required_set());
    let missing: Vec<_> = required
        .filter(|arg| !is_typed(typed, arg.get_id().as_str()))
        .collect();
    if missing.is_empty() {
        return Ok(C::from_arg_matches(typed)?);
    }
    let mut words = Vec::new();
    for arg in missing {
        let id = arg.get_id().as_str();
        let Some(value) = file.get(id) else {
            bail!("{arg} must be given");
        };
        let values = match value {
            toml::Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        words.extend(arg.get_long().map(|long| format!("--{long}")));
        words.extend(values.iter().map(|value| match value {
            toml::Value::String(text) => text.clone(),
            value => value.to_string(),
        }));
    }
    let command = relaxed::<C>(command).no_binary_name(true);
    let mut options = C::from_arg_matches(&command.try_get_matches_from(words)?)?;
    options.update_from_arg_matches(typed)?;
    Ok(options)
}

/// The command without the duty to type options of `C`: a file may say them.
pub(super) fn relaxed<C: Args>(command: Command) -> Command {
    let ids = ids::<C>().into_iter();
    ids.fold(command, |command, id| {
        command.mut_arg(id, |arg| arg.required(false))
    })
}

/// What a command line without any option of `C` says.
pub(super) fn nothing_typed<C: Args>() -> ArgMatches {
    let command = relaxed::<C>(C::augment_args(Command::new("")));
    command.no_binary_name(true).get_matches_from([""; 0])
}

/// The options of a file's table; what it does not say is as if nothing were typed.
pub(super) fn of_file<C>(file: &Table) -> Option<C>
where
    C: Args + Serialize + DeserializeOwned,
{
    let options = completed::<C>(&nothing_typed::<C>(), file).ok()?;
    let mut values = serde_json::to_value(options).ok()?;
    for (id, value) in file {
        values[id] = serde_json::to_value(value).ok()?;
    }
    serde_json::from_value(values).ok()
}

/// The options when only these words are typed; none when they are not enough.
pub(super) fn untyped<C: Args>(words: Vec<String>) -> Option<C> {
    let command = C::augment_args(Command::new("")).no_binary_name(true);
    let matches = command.try_get_matches_from(words).ok()?;
    C::from_arg_matches(&matches).ok()
}

/// The options of `C` that the user typed.
pub(super) fn typed<C: Args>(matches: &ArgMatches) -> Vec<String> {
    let mut ids = ids::<C>();
    ids.retain(|id| is_typed(matches, id));
    ids
}

fn ids<C: Args>() -> Vec<String> {
    let command = C::augment_args(Command::new(""));
    command
        .get_arguments()
        .map(|arg| arg.get_id().to_string())
        .collect()
}

/// The option of `C` that a person calls so: by its long name, another one that it has, or its letter.
pub(super) fn id_of<C: Args>(name: &str) -> Option<String> {
    let name = name.trim_start_matches('-').replace('_', "-");
    let command = C::augment_args(Command::new(""));
    let found = command.get_arguments().find(|arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        let letter = arg.get_short().map(String::from);
        arg.get_long() == Some(&*name)
            || aliases.contains(&&*name)
            || letter.as_ref() == Some(&name)
    });
    found.map(|arg| arg.get_id().to_string())
}

pub(super) fn is_typed(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}
