//! A compiler, tried out on a package.

use std::path::Path;

use super::folder::{Folder, damaged, files};
use super::{Component, Made, Trial, must, refused};
use crate::{Compiler, Error, Host, Result};

pub(super) struct Package<'a> {
    made: Component<'a>,
    package: &'a Path,
}

impl<'a> Package<'a> {
    pub(super) fn new(made: Component<'a>, package: &'a Path) -> Self {
        Self { made, package }
    }

    #[track_caller]
    fn compiler(&self) -> Box<dyn Compiler> {
        let Component { plugin, id, options } = self.made;
        must(id, plugin.compiler(id, options))
    }

    /// Whether it can run here.
    pub(super) fn is_available(&self) -> Result<bool> {
        Ok(self.compiler().check()?.available)
    }

    /// An error, and nothing that is left in the output folder.
    #[track_caller]
    fn refuse(&self, what: &str, package: &Path) -> Error {
        let output = Folder::new();
        let error = refused(what, self.compiler().compile(package, output.path(), &Host::quiet()));
        let left = files(output.path());
        let names: Vec<&str> = left.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.is_empty(), "{what}: these are left behind: {names:?}");
        error
    }
}

impl Trial for Package<'_> {
    fn work(&self, host: &Host) -> Result<Made> {
        let output = Folder::new();
        let made = self.compiler().compile(self.package, output.path(), host)?;
        let inside = made.strip_prefix(output.path()).map(Path::to_owned);
        let Ok(inside) = inside else {
            panic!("{} is not in the output folder {}", made.display(), output.path().display())
        };
        assert!(made.exists(), "{} is not there", made.display());
        let mut all = files(output.path());
        assert!(!all.is_empty(), "nothing was made");
        all.push(("the path".to_owned(), inside.to_string_lossy().into_owned().into_bytes()));
        Ok(all)
    }

    fn check_unknown(&self) {
        let folder = Folder::new();
        self.refuse("a package that is not there", &folder.path().join("none.mlpackage"));
        let text = folder.path().join("text.txt");
        if let Err(error) = std::fs::write(&text, "no package") {
            panic!("{}: {error}", text.display());
        }
        self.refuse("a text", &text);
        self.refuse("an empty folder", Folder::new().path());
    }

    fn check_damaged(&self) {
        damaged(self.package, |what, package| drop(self.refuse(what, package)));
    }
}
