//! Where plugins come from, and the folders of that.

use std::path::PathBuf;

/// Names the user's folder.
pub(crate) const DATA_VARIABLE: &str = "ANEMLL_DATA";
/// Lists folders with plugins.
pub(crate) const PATH_VARIABLE: &str = "ANEMLL_PLUGIN_PATH";

/// Where a plugin came from; later ones give way to earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `--plugin`.
    CommandLine,
    /// A folder of `ANEMLL_PLUGIN_PATH`.
    Path,
    /// A folder of the program: it came with it.
    Installed,
    /// The user's own folder.
    User,
    /// Linked into this program.
    Builtin,
}

impl Origin {
    /// For lists that users read.
    pub fn name(self) -> &'static str {
        match self {
            Self::CommandLine => "--plugin",
            Self::Path => "plugin path",
            Self::Installed => "installed",
            Self::User => "user",
            Self::Builtin => "builtin",
        }
    }

    /// Whether plugins from there are loaded only when the lock file lists them.
    pub fn needs_trust(self) -> bool {
        matches!(self, Self::Path | Self::User)
    }

    /// Whether plugins from there came with the program.
    pub fn is_shipped(self) -> bool {
        matches!(self, Self::Installed | Self::Builtin)
    }
}

/// The user's folder, with the lock file and the plugins that were added: `ANEMLL_DATA`, else `anemll`
/// in the user's folder for data. It need not exist.
pub fn data_folder() -> Option<PathBuf> {
    folder_by(|name| std::env::var_os(name).map(PathBuf::from), std::env::home_dir())
}

fn folder_by(variable: impl Fn(&str) -> Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    // A folder that depends on where a program is started is none.
    let set = |name: &str| variable(name).filter(|path| path.is_absolute());
    let home = home.filter(|home| home.is_absolute());
    let data = if cfg!(windows) {
        set("APPDATA")
    } else if cfg!(target_vendor = "apple") {
        home.map(|home| home.join("Library/Application Support"))
    } else {
        set("XDG_DATA_HOME").or_else(|| home.map(|home| home.join(".local/share")))
    };
    set(DATA_VARIABLE).or_else(|| data.map(|data| data.join("anemll")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(set: &[(&str, &str)], home: Option<&str>) -> Option<PathBuf> {
        let value = |name: &str| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value))
        };
        folder_by(value, home.map(PathBuf::from))
    }

    #[test]
    fn the_variable_goes_before_the_users_folder() {
        let root = if cfg!(windows) { "C:\\" } else { "/" };
        let named = format!("{root}named");
        let found = folder(&[(DATA_VARIABLE, &named), ("XDG_DATA_HOME", "/y")], Some("/home/a"));
        assert_eq!(found, Some(PathBuf::from(&named)));
        assert_eq!(folder(&[], None), None);
        let relative = folder(&[(DATA_VARIABLE, "here"), ("XDG_DATA_HOME", "there")], None);
        assert_eq!(relative, None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_users_folder_is_that_of_the_system() {
        let found = folder(&[("XDG_DATA_HOME", "/x")], Some("/home/a"));
        assert_eq!(found, Some(PathBuf::from("/x/anemll")));
        assert_eq!(
            folder(&[("XDG_DATA_HOME", "x")], Some("/home/a")),
            Some(PathBuf::from("/home/a/.local/share/anemll"))
        );
    }
}
