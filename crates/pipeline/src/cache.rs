//! The folder with what takes long to make and is made the same again: calibrations.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Names the folder.
const VARIABLE: &str = "ANEMLL_CACHE";
/// Bytes that the folder may have; the oldest files go first.
const LARGEST: u64 = 4_000_000_000;

/// The folder, if one can be made and written to: `ANEMLL_CACHE`, else `anemll` in the user's folder for caches.
pub(crate) fn folder() -> Option<PathBuf> {
    let folder = place(|name| std::env::var_os(name).map(PathBuf::from), std::env::home_dir())?;
    std::fs::create_dir_all(&folder).ok()?;
    tempfile::tempfile_in(&folder).ok()?;
    Some(folder)
}

fn place(variable: impl Fn(&str) -> Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|path| path.is_absolute());
    let home = home.filter(|home| home.is_absolute());
    let caches = if cfg!(windows) {
        set("LOCALAPPDATA")
    } else if cfg!(target_vendor = "apple") {
        home.map(|home| home.join("Library/Caches"))
    } else {
        set("XDG_CACHE_HOME").or_else(|| home.map(|home| home.join(".cache")))
    };
    set(VARIABLE).or_else(|| caches.map(|caches| caches.join("anemll")))
}

/// Removes the oldest files until all are within the limit; `newest` stays. What cannot be removed is
/// left.
pub(crate) fn trim(folder: &Path, newest: &Path) {
    trim_to(folder, newest, LARGEST);
}

fn trim_to(folder: &Path, newest: &Path, largest: u64) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
        .filter_map(|entry| {
            let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((metadata.modified().ok()?, metadata.len(), entry.path()))
        })
        .collect();
    files.sort();
    let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in files {
        if total <= largest {
            break;
        }
        if path != newest && std::fs::remove_file(&path).is_ok() {
            total -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_goes_before_the_users_folder() {
        let home = || Some(PathBuf::from("/home/a"));
        let set = |names: &'static [(&str, &str)]| {
            move |name: &str| {
                names
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| PathBuf::from(value))
            }
        };
        let named = place(set(&[(VARIABLE, "/x"), ("XDG_CACHE_HOME", "/y")]), home());
        assert_eq!(named, Some(PathBuf::from("/x")));
        assert_eq!(place(set(&[]), None), None);
        // A folder that depends on where a program is started is none.
        let found = place(set(&[(VARIABLE, "x")]), home());
        assert!(found.is_none_or(|path| path.starts_with("/home/a")));
    }

    #[test]
    fn the_oldest_go_first_and_the_newest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        for (age, name) in ["c", "b", "a"].into_iter().enumerate() {
            std::fs::write(file(name), [0; 10]).unwrap();
            let written = std::fs::File::options().write(true).open(file(name)).unwrap();
            let time = SystemTime::now() - std::time::Duration::from_secs(60 * age as u64);
            written.set_modified(time).unwrap();
        }
        trim_to(folder.path(), &file("a"), 20);
        assert!(file("a").exists() && !file("b").exists() && file("c").exists());
        trim_to(folder.path(), &file("a"), 0);
        assert!(file("a").exists() && !file("c").exists());
    }
}
