//! The modules of one crate, and where a path leads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::source::{Declared, Source};

/// One module.
#[derive(Debug)]
struct Module {
    /// Index of the file that holds its text.
    file: usize,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    source: Source,
}

/// All modules of a crate.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub files: Vec<PathBuf>,
    modules: Vec<Module>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Module(usize),
    /// An item that stands in this file.
    Item(usize),
}

impl Tree {
    /// Reads a crate from its root file on.
    pub(super) fn read(root: &Path) -> Result<Self, String> {
        let mut tree = Self::default();
        let folder = root.parent().unwrap_or(Path::new("")).to_owned();
        tree.add_file(root, &folder, None)?;
        Ok(tree)
    }

    /// Adds the module in a file; its children in files of their own are in `folder`.
    fn add_file(
        &mut self,
        file: &Path,
        folder: &Path,
        parent: Option<usize>,
    ) -> Result<usize, String> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let source = Source::read(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        self.files.push(file.to_owned());
        self.add(source, self.files.len() - 1, folder, parent)
    }

    fn add(
        &mut self,
        mut source: Source,
        file: usize,
        folder: &Path,
        parent: Option<usize>,
    ) -> Result<usize, String> {
        let declared = std::mem::take(&mut source.modules);
        let index = self.modules.len();
        self.modules.push(Module { file, parent, children: BTreeMap::new(), source });
        for Declared { name, path, inline } in declared {
            let inner = folder.join(&name);
            let child = match (inline, path) {
                (Some(source), _) => self.add(source, file, &inner, Some(index))?,
                (None, Some(path)) => {
                    let beside = self.files[file].parent().unwrap_or(Path::new("")).join(path);
                    let own = beside.parent().unwrap_or(Path::new("")).to_owned();
                    self.add_file(&beside, &own, Some(index))?
                }
                (None, None) => {
                    let flat = folder.join(format!("{name}.rs"));
                    let found = if flat.is_file() { flat } else { inner.join("mod.rs") };
                    self.add_file(&found, &inner, Some(index))?
                }
            };
            self.modules[index].children.insert(name, child);
        }
        Ok(index)
    }

    /// For each file the files of the same crate whose items it names, and one of the names. Not
    /// those of the modules that it stands in: a part may name what the whole holds for its parts.
    pub(super) fn arrows(&self) -> Vec<BTreeMap<usize, String>> {
        let mut arrows = vec![BTreeMap::new(); self.files.len()];
        for (index, module) in self.modules.iter().enumerate() {
            let mut point = |meaning: Option<Meaning>, name: &str| {
                if let Some(Meaning::Item(file)) = meaning
                    && !self.holds(file, index)
                {
                    arrows[module.file].entry(file).or_insert_with(|| name.to_owned());
                }
            };
            for path in &module.source.paths {
                point(self.resolve(index, path, &mut BTreeSet::new()), &path.join("::"));
            }
            for import in &module.source.imports {
                let shown = import.path.join("::");
                match &import.name {
                    // What is only handed on, as a crate's root hands on the names of its modules,
                    // is no use of it.
                    Some(name) if import.public && !module.source.words.contains(name) => {}
                    Some(_) => {
                        point(self.resolve(index, &import.path, &mut BTreeSet::new()), &shown)
                    }
                    None => {
                        let target = self.resolve(index, &import.path, &mut BTreeSet::new());
                        for word in &module.source.words {
                            if self.own(index, word).is_none() {
                                let meaning = match target {
                                    Some(Meaning::Module(module)) => {
                                        self.find(module, word, false, &mut BTreeSet::new())
                                    }
                                    other => other,
                                };
                                point(meaning, word);
                            }
                        }
                    }
                }
            }
        }
        arrows
    }

    /// Whether a file is that of a module or of one around it.
    fn holds(&self, file: usize, module: usize) -> bool {
        let mut around = Some(module);
        while let Some(index) = around {
            if self.modules[index].file == file {
                return true;
            }
            around = self.modules[index].parent;
        }
        false
    }

    /// Where a path leads that is written in a module; none for other crates.
    fn resolve(
        &self,
        module: usize,
        path: &[String],
        seen: &mut BTreeSet<(usize, String)>,
    ) -> Option<Meaning> {
        let mut names = path.iter().map(String::as_str).peekable();
        let mut here = match names.peek().copied()? {
            "crate" => {
                names.next();
                0
            }
            "self" => {
                names.next();
                module
            }
            "Self" => return None,
            _ => module,
        };
        let mut anchored = matches!(path[0].as_str(), "crate" | "self");
        while names.next_if_eq(&"super").is_some() {
            here = self.modules[here].parent?;
            anchored = true;
        }
        while let Some(name) = names.next() {
            let more = names.peek().is_some();
            match self.find(here, name, more, seen) {
                Some(Meaning::Module(inner)) => here = inner,
                Some(item) => return Some(item),
                // A name that something generates, or a macro.
                None if anchored => return Some(Meaning::Item(self.modules[here].file)),
                None => return None,
            }
            anchored = true;
        }
        Some(Meaning::Module(here))
    }

    /// What a name stands for in a module. When `more` of a path follows, a module goes before an
    /// item of the same name, else after.
    fn find(
        &self,
        module: usize,
        name: &str,
        more: bool,
        seen: &mut BTreeSet<(usize, String)>,
    ) -> Option<Meaning> {
        let own = &self.modules[module];
        let child = own.children.get(name).map(|&child| Meaning::Module(child));
        if more && child.is_some() {
            return child;
        }
        if own.source.items.contains(name) {
            return Some(Meaning::Item(own.file));
        }
        if module == 0
            && let Some(holder) =
                self.modules.iter().find(|module| module.source.exported_macros.contains(name))
        {
            return Some(Meaning::Item(holder.file));
        }
        if !seen.insert((module, name.to_owned())) {
            return child;
        }
        let imports = &own.source.imports;
        let mut found = None;
        for import in imports.iter().filter(|import| import.name.as_deref() == Some(name)) {
            match self.resolve(module, &import.path, seen) {
                Some(Meaning::Item(file)) if !more => return Some(Meaning::Item(file)),
                meaning => found = found.or(meaning),
            }
        }
        if found.or(child).is_some() {
            return found.or(child);
        }
        imports.iter().filter(|import| import.name.is_none()).find_map(|import| {
            match self.resolve(module, &import.path, seen)? {
                Meaning::Module(target) if target != module => self.find(target, name, more, seen),
                _ => None,
            }
        })
    }

    /// What a name stands for without the imports of everything.
    fn own(&self, module: usize, name: &str) -> Option<()> {
        let module = &self.modules[module];
        let imported =
            module.source.imports.iter().any(|import| import.name.as_deref() == Some(name));
        (imported || module.source.items.contains(name) || module.children.contains_key(name))
            .then_some(())
    }
}
