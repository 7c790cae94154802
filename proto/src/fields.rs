//! Which fields each message has, to tell those that the schema does not name.

/// How often a field occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    One,
    List,
    /// A list of entries, each with a key and a value.
    Map,
}

/// A field of a message.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// Place in [`MESSAGES`] of the message that it holds.
    message: Option<usize>,
}

/// A message.
#[derive(Debug)]
pub(crate) struct Message {
    /// With the package before it.
    name: &'static str,
    fields: &'static [Field],
}

impl Message {
    /// The field with a number.
    pub(crate) fn field(&self, number: u32) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.number == number)
    }
}

impl Field {
    /// The message that it holds, if it holds one.
    pub(crate) fn inner(&self) -> Option<&'static Message> {
        MESSAGES.get(self.message?)
    }
}

/// The message with a name.
pub(crate) fn message(name: &str) -> Option<&'static Message> {
    MESSAGES.iter().find(|message| message.name == name)
}

/// A line of the table.
const fn field(number: u32, name: &'static str, shape: Shape, message: Option<usize>) -> Field {
    Field { number, name, shape, message }
}

/// All messages of the schema, generated as the messages themselves are.
static MESSAGES: &[Message] = &include!("generated/fields.rs");
