//! Counts what a file is made of before anything of it is kept.
//!
//! An empty node takes two bytes of a file and two hundred of memory. So the parts of a file, its messages and
//! texts, are counted first: with a bound on them, reading takes no more memory than a small multiple of the
//! file's length.

/// Most messages and texts of a file: a hundred times what large networks have.
pub const MOST_PARTS: usize = 1 << 20;

/// The messages that have messages in them.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
}

impl Message {
    /// The message in a field, if it is one with parts of its own that are read.
    fn child(self, field: u64) -> Option<Message> {
        match (self, field) {
            (Message::Model, 7) => Some(Message::Graph),
            (Message::Graph, 1) => Some(Message::Node),
            (Message::Graph, 5) | (Message::Attribute, 5) => Some(Message::Tensor),
            (Message::Graph, 11 | 12) => Some(Message::ValueInfo),
            (Message::Node, 5) => Some(Message::Attribute),
            (Message::ValueInfo, 2) => Some(Message::Type),
            (Message::Type, 1) => Some(Message::TensorType),
            (Message::TensorType, 2) => Some(Message::Shape),
            _ => None,
        }
    }
}

/// The number of messages and texts in a model, counted no further than one beyond [`MOST_PARTS`].
///
/// `None` for bytes that are no protocol buffer.
pub fn parts(model: &[u8]) -> Option<usize> {
    let mut count = 0;
    scan(Message::Model, model, &mut count)?;
    Some(count)
}

fn scan(message: Message, mut bytes: &[u8], count: &mut usize) -> Option<()> {
    while !bytes.is_empty() && *count <= MOST_PARTS {
        let key = varint(&mut bytes)?;
        match key & 7 {
            0 => drop(varint(&mut bytes)?),
            1 => drop(take(&mut bytes, 8)?),
            5 => drop(take(&mut bytes, 4)?),
            2 => {
                let length = varint(&mut bytes)?;
                let part = take(&mut bytes, length)?;
                *count += 1;
                if let Some(child) = message.child(key >> 3) {
                    scan(child, part, count)?;
                }
            }
            _ => return None, // groups, which ONNX never had
        }
    }
    Some(())
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (part, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(part)
}

/// A number of seven bits a byte, the lowest first; a byte above 127 is not the last one.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}
