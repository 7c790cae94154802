//! The program `anemll`.

fn main() {}
