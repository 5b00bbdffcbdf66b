//! Which Python runs a script: here the one that is meant, elsewhere the first that has what the script imports.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use dsgd::TaskResult;

/// What asks a Python for its version and for modules that it cannot find; no module is loaded for that.
const LOOK: &str = "import importlib.util, sys\n\
    print('.'.join(map(str, sys.version_info[:3])), \
    *[m for m in sys.argv[1:] if importlib.util.find_spec(m) is None])";

/// The oldest Python that the package is for.
const OLDEST: (u32, u32) = (3, 9);

/// The one that runs scripts here: the one that was typed, that which called this program, that of the virtual
/// environment, else `python3`.
pub(crate) fn here(typed: Option<&str>) -> String {
    let of_environment = || {
        let folder = env::var_os("VIRTUAL_ENV").filter(|folder| !folder.is_empty())?;
        let python = Path::new(&folder).join("bin/python");
        Some(python.to_str()?.to_owned())
    };
    typed
        .map(str::to_owned)
        .or_else(given)
        .or_else(of_environment)
        .unwrap_or_else(|| "python3".to_owned())
}

/// Those that may run scripts on this host: the one that the host list names for it, else the one that was typed, else that
/// of the server's machine where this one has the same, and `python3`.
pub(crate) fn elsewhere(typed: Option<&str>, of_server: Option<&str>) -> Vec<String> {
    let named = given().or_else(|| typed.map(str::to_owned));
    let any = || of_server.into_iter().chain(["python3"]);
    let any = || any().map(str::to_owned).collect();
    named.map_or_else(any, |named| vec![named])
}

/// The one that called this program, or that the host list names.
fn given() -> Option<String> {
    let given = env::var("DSGD_PYTHON").ok();
    given.filter(|python| !python.is_empty())
}

/// The first of these that can import all of `needs`.
///
/// # Errors
/// What each of them lacks, and what to do.
pub(crate) fn first_with(candidates: &[String], needs: &[String]) -> TaskResult<String> {
    let mut lacking = Vec::new();
    for python in candidates {
        match lacks(python, needs) {
            None => return Ok(python.clone()),
            Some(why) if lacking.contains(&why) => {}
            Some(why) => lacking.push(why),
        }
    }
    let lacking = lacking.join("; ");
    Err(format!(
        "{lacking}: --env requirements.txt makes an environment there; or install what is missing on this host, or name \
         another Python by --python PATH, for one host by python=PATH in the host list"
    )
    .into())
}

/// The version of a Python that the package is for.
pub(crate) fn version(python: &str) -> Option<String> {
    let (version, _) = asked(python, &[]).ok()?;
    Some(version)
}

/// Why a Python is of no use here.
fn lacks(python: &str, needs: &[String]) -> Option<String> {
    match asked(python, needs) {
        Err(why) => Some(why),
        Ok((_, missing)) if missing.is_empty() => None,
        Ok((version, missing)) => Some(format!(
            "{python} ({version}) has no {}",
            missing.join(", ")
        )),
    }
}

/// A Python's version, and what of `needs` it has not; or why it cannot be used.
fn asked(python: &str, needs: &[String]) -> Result<(String, Vec<String>), String> {
    let mut command = Command::new(python);
    let asked = command
        .arg("-c")
        .arg(LOOK)
        .args(needs)
        .stdin(Stdio::null())
        .output();
    let answer = asked.map_err(|_| format!("there is no {python}"))?;
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let mut words = text.split_whitespace().map(str::to_owned);
    let Some(version) = words.next().filter(|_| answer.status.success()) else {
        let complaint = String::from_utf8_lossy(&answer.stderr).into_owned();
        let last = complaint.lines().last().unwrap_or("it says nothing");
        return Err(format!("{python} does not run: {last}"));
    };
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let major_minor = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if major_minor < OLDEST {
        return Err(format!("{python} ({version}) is older than 3.9"));
    }
    Ok((version, words.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_python_lacks_is_named() {
        let needs = |names: &[&str]| {
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>()
        };
        let candidates = needs(&["/nowhere/python3", "python3"]);
        assert_eq!(
            first_with(&candidates, &needs(&["json"])).unwrap(),
            "python3"
        );
        let error = first_with(&candidates, &needs(&["json", "nosuch_a", "nosuch_b"]));
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("there is no /nowhere/python3; python3 (3."),
            "{error}"
        );
        assert!(
            error.contains("has no nosuch_a, nosuch_b: --env"),
            "{error}"
        );
        let error = first_with(&needs(&["false"]), &[]).unwrap_err().to_string();
        assert!(
            error.starts_with("false does not run: it says nothing"),
            "{error}"
        );
    }

    #[test]
    fn what_is_typed_is_meant() {
        assert_eq!(here(Some("/a/python")), "/a/python");
    }
}
