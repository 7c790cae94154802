//! Packages of a conversion that become one model.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, codes, limits};

/// What a model of several packages consists of. A compiler [that joins](super::ComponentManifest::joins) is given
/// the path of a file `NAME.json` with this in place of a package's, and makes `NAME` with its own ending.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Joined {
    /// Its file name, without an ending.
    pub name: String,
    /// Its functions, in the order of their first call.
    pub functions: Vec<JoinedFunction>,
}

/// A function of a model of several packages.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JoinedFunction {
    /// Its name in the model, which no other function has.
    pub name: String,
    /// The package that it is taken from: for a compiler its absolute path, in the description of a conversion its
    /// path below that, without the ending.
    pub package: String,
    /// Its name there.
    pub function: String,
}

impl Joined {
    /// A model without functions yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), functions: Vec::new() }
    }

    /// The same model with one more function.
    #[must_use]
    pub fn with_function(
        mut self,
        name: impl Into<String>,
        package: impl Into<String>,
        function: impl Into<String>,
    ) -> Self {
        let (name, package, function) = (name.into(), package.into(), function.into());
        self.functions.push(JoinedFunction { name, package, function });
        self
    }

    /// What a file says.
    ///
    /// # Errors
    /// [`codes::PACKAGE_UNREADABLE`] for what is none, or names no function or one twice.
    pub fn parse(json: &str) -> Result<Self> {
        let refused = |why: String| {
            Error::new(codes::PACKAGE_UNREADABLE, format!("this lists no packages to join: {why}"))
        };
        if json.len() > limits::JSON {
            return Err(refused(format!("it has more than {} bytes", limits::JSON)));
        }
        let joined: Self =
            serde_json::from_str(json).map_err(|error| refused(error.to_string()))?;
        let mut names: Vec<&str> = joined.functions.iter().map(|one| one.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            _ if names.is_empty() => Err(refused("it names no function".to_owned())),
            Some(pair) => Err(refused(format!("it names {:?} twice", pair[0]))),
            None => Ok(joined),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let joined = Joined::new("llama")
            .with_function("embeddings", "/a/llama_embeddings.mlpackage", "main")
            .with_function("infer_01", "/a/b.mlpackage", "infer");
        let text = serde_json::to_string(&joined).unwrap();
        assert_eq!(Joined::parse(&text).unwrap(), joined);
        let twice = joined.clone().with_function("infer_01", "/a/c.mlpackage", "infer");
        for other in [
            "[]".to_owned(),
            serde_json::to_string(&Joined::new("x")).unwrap(),
            serde_json::to_string(&twice).unwrap(),
        ] {
            assert_eq!(Joined::parse(&other).unwrap_err().code, codes::PACKAGE_UNREADABLE);
        }
    }
}
