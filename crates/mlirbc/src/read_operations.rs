//! Reading operations, within bounds of depth.

use crate::document::{Block, Operation, Region};
use crate::error::Result;
use crate::primitives::Reader;
use crate::write::{part, section};

/// How deep regions may nest. Bodies of operations in bodies of functions make four or five.
const MAXIMUM_DEPTH: usize = 32;

/// How many entries the tables have that operations name.
pub(crate) struct Operations {
    pub(crate) names: usize,
    pub(crate) attributes: usize,
    pub(crate) types: usize,
    pub(crate) properties: usize,
}

/// How many values of an isolated region were announced and have been defined so far.
struct Values {
    announced: u64,
    defined: u64,
}

impl Operations {
    /// The block of the module, whose values are not announced.
    pub(crate) fn module(&self, reader: &mut Reader<'_>) -> Result<Block> {
        self.block(reader, &mut Values { announced: u64::MAX, defined: 0 }, 0)
    }

    fn block(&self, reader: &mut Reader<'_>, values: &mut Values, depth: usize) -> Result<Block> {
        let (count, has_arguments) = reader.flagged()?;
        let mut block = Block::default();
        if has_arguments {
            for _ in 0..reader.count()? {
                let (kind, located) = reader.flagged()?;
                let kind = reader.below(kind, self.types, "type")?;
                if !located {
                    return Err(reader.error("an argument of a block has no location"));
                }
                let location = reader.index(self.attributes, "attribute")?;
                block.arguments.push((kind, location));
            }
            if reader.byte()? != 0 {
                return Err(reader.error("a block has orders of uses, which are not read"));
            }
        }
        self.define(reader, values, block.arguments.len())?;
        for _ in 0..reader.fitting(count)? {
            block.operations.push(self.operation(reader, values, depth)?);
        }
        Ok(block)
    }

    fn define(&self, reader: &Reader<'_>, values: &mut Values, count: usize) -> Result<()> {
        values.defined += count as u64;
        if values.defined > values.announced {
            return Err(reader.error(format!(
                "a region announces {} values and defines more",
                values.announced
            )));
        }
        Ok(())
    }

    fn operation(
        &self,
        reader: &mut Reader<'_>,
        values: &mut Values,
        depth: usize,
    ) -> Result<Operation> {
        let name = reader.index(self.names, "name of operation")?;
        let mask = reader.byte()?;
        let location = reader.index(self.attributes, "attribute")?;
        let mut operation = Operation { name, location, ..Operation::default() };
        if mask & part::ATTRIBUTES != 0 {
            operation.attributes = Some(reader.index(self.attributes, "attribute")?);
        }
        if mask & part::PROPERTIES != 0 {
            operation.properties = Some(reader.index(self.properties, "record of properties")?);
        }
        if mask & part::RESULTS != 0 {
            for _ in 0..reader.count()? {
                operation.results.push(reader.index(self.types, "type")?);
            }
        }
        if mask & part::OPERANDS != 0 {
            for _ in 0..reader.count()? {
                operation.operands.push(reader.varint()?);
            }
        }
        if mask & part::SUCCESSORS != 0 {
            for _ in 0..reader.count()? {
                operation.successors.push(reader.varint()?);
            }
        }
        self.define(reader, values, operation.results.len())?;
        // Only orders of uses are of no use here, and no bit beyond the known ones has a meaning.
        if mask & (part::USE_ORDER | 0x80) != 0 {
            return Err(reader.error(format!("an operation has parts {mask:#04x}")));
        }
        if mask & part::REGIONS != 0 {
            let (count, isolated) = reader.flagged()?;
            if depth == MAXIMUM_DEPTH {
                return Err(reader.error(format!("regions nest deeper than {MAXIMUM_DEPTH}")));
            }
            for _ in 0..reader.fitting(count)? {
                let region = match isolated {
                    true => self.isolated(reader, depth + 1)?,
                    false => self.region(reader, Some(values), depth + 1)?,
                };
                operation.regions.push(region);
            }
        }
        Ok(operation)
    }

    /// An isolated region stands in a section of its own.
    fn isolated(&self, reader: &mut Reader<'_>, depth: usize) -> Result<Region> {
        let number = reader.byte()?;
        let length = reader.varint()?;
        if number != section::OPERATIONS {
            return Err(reader.error(format!("section {number} stands where a region is wanted")));
        }
        let start = reader.offset();
        let mut inner = Reader::new(reader.bytes(length)?, start);
        let region = self.region(&mut inner, None, depth)?;
        inner.end("a region")?;
        Ok(region)
    }

    /// A region, isolated if there are no values around it.
    fn region(
        &self,
        reader: &mut Reader<'_>,
        around: Option<&mut Values>,
        depth: usize,
    ) -> Result<Region> {
        let mut region = Region { isolated: around.is_none(), blocks: Vec::new() };
        let count = reader.count()?;
        if count == 0 {
            return Ok(region);
        }
        let announced = reader.varint()?;
        let mut values = Values { announced, defined: 0 };
        for _ in 0..count {
            region.blocks.push(self.block(reader, &mut values, depth)?);
        }
        if values.defined != announced {
            return Err(reader.error(format!(
                "a region announces {announced} values and defines {}",
                values.defined
            )));
        }
        match around {
            Some(around) => self.define(reader, around, usize::try_from(announced).unwrap_or(0))?,
            None => check_operands(reader, &region, announced)?,
        }
        Ok(region)
    }
}

/// Operands of an isolated region are among its values.
fn check_operands(reader: &Reader<'_>, region: &Region, values: u64) -> Result<()> {
    for operation in region.blocks.iter().flat_map(|block| &block.operations) {
        if let Some(operand) = operation.operands.iter().find(|operand| **operand >= values) {
            return Err(
                reader.error(format!("value {operand} is named, but a region has {values}"))
            );
        }
        for inner in operation.regions.iter().filter(|region| !region.isolated) {
            check_operands(reader, inner, values)?;
        }
    }
    Ok(())
}
