//! What the keys of a configuration are called.

/// The decoder's names of keys are the usual ones; this makes them those of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyNames {
    /// The object that holds the language model's keys, in models of more than text.
    pub section: Option<&'static str>,
    /// Keys that are called otherwise: the usual name and the family's.
    pub own: &'static [(&'static str, &'static str)],
}

impl KeyNames {
    /// The family's name of a key.
    pub fn of<'a>(&self, usual: &'a str) -> &'a str {
        self.own.iter().find(|(name, _)| *name == usual).map_or(usual, |(_, own)| own)
    }

    /// The key as errors name it, with the section before it.
    pub fn path(&self, usual: &str) -> String {
        match self.section {
            Some(section) => format!("{section}.{}", self.of(usual)),
            None => self.of(usual).to_owned(),
        }
    }

    /// A product of keys, such as `2*intermediate_size`, in the family's names.
    pub fn spell(&self, product: &str) -> String {
        let is_name = |part: &char| part.is_ascii_alphanumeric() || *part == '_';
        let mut spelled = String::new();
        let mut rest = product;
        while let Some(first) = rest.chars().next() {
            let end = match is_name(&first) {
                true => rest.find(|part| !is_name(&part)).unwrap_or(rest.len()),
                false => first.len_utf8(),
            };
            let (part, behind) = rest.split_at(end);
            spelled.push_str(self.of(part));
            rest = behind;
        }
        spelled
    }

    /// The object of `config.json` that the keys stand in, for a sentence.
    pub(crate) fn place(&self) -> String {
        match self.section {
            Some(section) => format!("`{section}` of config.json"),
            None => "config.json".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::KeyNames;

    #[test]
    fn names_of_a_family_stand_for_the_usual_ones() {
        let names = KeyNames { section: Some("text_config"), own: &[("heads", "num_heads")] };
        assert_eq!(names.path("heads"), "text_config.num_heads");
        assert_eq!(names.spell("(heads+2*key_heads)*width"), "(num_heads+2*key_heads)*width");
        assert_eq!(names.place(), "`text_config` of config.json");
        assert_eq!(KeyNames::default().path("heads"), "heads");
        assert_eq!(KeyNames::default().spell("2*heads"), "2*heads");
    }
}
