//! Models in several files: their headers as one, their bytes one behind another.

use crate::container::Container;
use crate::error::{Error, Result};
use crate::source::Source;
use crate::value::Value;
use std::io;
use std::sync::Arc;

/// How many files there are, which of them this is, and how many tensors they have together.
const COUNT: &str = "split.count";
const NUMBER: &str = "split.no";
const TENSORS: &str = "split.tensors.count";

/// Digits of a file's number, and of their count.
const DIGITS: usize = 5;
/// More files than any model has.
const MOST: u64 = 10_000;

/// The files of a model, each behind the one before.
#[derive(Debug)]
pub struct Parts<S> {
    /// Each with its first byte, counted over all.
    parts: Vec<(u64, S)>,
    size: u64,
}

impl<S> Parts<S> {
    /// These files of so many bytes.
    pub fn new(parts: impl IntoIterator<Item = (S, u64)>) -> Self {
        let mut size = 0_u64;
        let mut place = |(part, bytes): (S, u64)| {
            let begin = size;
            size = size.saturating_add(bytes);
            (begin, part)
        };
        let parts = parts.into_iter().map(&mut place).collect();
        Self { parts, size }
    }

    /// Which file has this byte, from 0.
    pub fn number(&self, offset: u64) -> usize {
        self.parts.partition_point(|(begin, _)| *begin <= offset).saturating_sub(1)
    }

    /// A file.
    pub fn get(&self, number: usize) -> Option<&S> {
        self.parts.get(number).map(|(_, part)| part)
    }
}

impl<S: Source> Source for Parts<S> {
    /// No tensor lies in two files: what is asked for is in one.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let number = self.number(offset);
        let end = self.parts.get(number + 1).map_or(self.size, |(begin, _)| *begin);
        match self.parts.get(number) {
            Some((begin, part)) if offset.saturating_add(buffer.len() as u64) <= end => {
                part.read(buffer, offset - begin)
            }
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl<S: Source + ?Sized> Source for Arc<S> {
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read(buffer, offset)
    }
}

/// Names of all files of a model, by the name of one of them, such as `X-00001-of-00003.gguf`; none for
/// a name of another form.
pub fn names(name: &str) -> Option<Vec<String>> {
    let (front, ending) = name.rsplit_once('.')?;
    let (front, count) = front.rsplit_once("-of-")?;
    let (front, number) = front.rsplit_once('-')?;
    let read = |digits: &str| {
        let plain = digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| plain)
    };
    let (number, count) = (read(number)?, read(count)?);
    let sound = (1..=MOST).contains(&count) && (1..=count).contains(&number);
    let name = |number| format!("{front}-{number:0DIGITS$}-of-{count:0DIGITS$}.{ending}");
    sound.then(|| (1..=count).map(name).collect())
}

impl Container {
    /// How many files the model has, of which this is one.
    ///
    /// # Errors
    /// No number of files.
    pub fn files(&self) -> Result<u64> {
        let count = self.typed(COUNT, "a number of files", Value::size)?.unwrap_or(1).max(1);
        match count <= MOST {
            true => Ok(count),
            false => {
                Err(Error::invalid(format!("is {count}, not a number of files")).with_key(COUNT))
            }
        }
    }

    /// The headers of all files of a model as one, in their order and with their sizes, whose tensors
    /// stand where [`Parts`] of these files have them.
    ///
    /// # Errors
    /// Files of different models, or in another order; tensors that are there twice or lack.
    pub fn join(parts: Vec<(Self, u64)>) -> Result<Self> {
        let count = parts.len();
        let mut joined: Option<Self> = None;
        let mut begin = 0_u64;
        for (place, (mut part, bytes)) in parts.into_iter().enumerate() {
            let number = part.typed(NUMBER, "the number of a file", Value::size)?;
            if part.files()? != count as u64 || number != Some(place as u64) {
                return Err(Error::invalid(format!(
                    "the file that stands for number {} of {count} says it is another one",
                    place + 1
                ))
                .with_key(NUMBER)
                .with_hint("the files of a model keep the names that they were made with"));
            }
            part.tensors.iter_mut().for_each(|tensor| tensor.start += begin);
            begin = begin.saturating_add(bytes);
            match &mut joined {
                None => joined = Some(part),
                Some(joined) => joined.tensors.append(&mut part.tensors),
            }
        }
        let mut joined = joined.ok_or_else(|| Error::invalid("the model has no files"))?;
        joined.check_joined()?;
        for key in [COUNT, NUMBER, TENSORS] {
            joined.metadata.remove(key);
        }
        Ok(joined)
    }

    /// The tensors are those that the first file speaks of, each once.
    fn check_joined(&self) -> Result<()> {
        let found = self.tensors.len() as u64;
        let said = self.typed(TENSORS, "a number of tensors", Value::size)?;
        if let Some(said) = said.filter(|said| *said != found) {
            return Err(Error::invalid(format!(
                "the files have {found} tensors, and the first one says {said}"
            ))
            .with_key(TENSORS));
        }
        let mut names: Vec<&str> = self.tensors.iter().map(|tensor| &*tensor.name).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(()),
            Some(pair) => Err(Error::invalid("the tensor is in two files").with_key(pair[0])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_files_follow_from_one() {
        let all = ["a-b-00001-of-00002.gguf", "a-b-00002-of-00002.gguf"];
        assert!(all.iter().all(|one| names(one).unwrap() == all));
        for other in [
            "a.gguf",
            "a-00001-of-00002",
            "a-1-of-2.gguf",
            "a-00003-of-00002.gguf",
            "a-00000-of-00002.gguf",
            "a-+0001-of-00002.gguf",
            "a-00001-of-99999.gguf",
        ] {
            assert_eq!(names(other), None, "{other}");
        }
    }

    #[test]
    fn bytes_are_found_in_their_file() {
        let files: [Arc<[u8]>; 3] = [Arc::from(*b"abc"), Arc::from(*b""), Arc::from(*b"de")];
        let parts =
            Parts::new(files.into_iter().map(|file| (Arc::clone(&file), file.len() as u64)));
        let read = |offset, count| {
            let mut buffer = vec![0; count];
            parts.read(&mut buffer, offset).map(|()| buffer)
        };
        assert_eq!(read(1, 2).unwrap(), b"bc");
        assert_eq!(read(3, 2).unwrap(), b"de");
        assert_eq!([0, 2, 3, 4].map(|offset| parts.number(offset)), [0, 0, 2, 2]);
        // Over the end of a file, and of the last one.
        assert!(read(2, 2).is_err() && read(4, 2).is_err() && read(9, 1).is_err());
    }
}
