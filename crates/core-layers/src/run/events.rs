//! TensorBoard's event files, as far as scalars need them.
//!
//! A file is a sequence of records: length u64, masked CRC-32C of the length, a protobuf `Event`, masked CRC-32C of the
//! event; numbers little-endian (TensorFlow, `core/lib/io/record_writer.h` and `core/util/event.proto`).

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    process,
    time::{SystemTime, UNIX_EPOCH},
};

/// An event file that is written to.
#[derive(Debug)]
pub(super) struct EventFile(File);

impl EventFile {
    /// A new file in `folder`; what earlier files there say of steps beyond `last_step` is void.
    pub(super) fn create(folder: &Path, last_step: u64) -> io::Result<Self> {
        let now = seconds();
        let mut attempt = 0;
        let file = loop {
            let name = format!(
                "events.out.tfevents.{:010}.chainrule.{}.{attempt}",
                now as u64,
                process::id()
            );
            match File::options().append(true).create_new(true).open(folder.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
                other => break other?,
            }
        };
        let mut events = Self(file);
        events.write(&[time(now), text(3, b"brain.Event:2")].concat())?;
        let start = text(7, &varint_field(1, 1)); // SessionLog { status: START }: purges from this step on
        events.write(&[time(now), varint_field(2, last_step + 1), start].concat())?;
        Ok(events)
    }

    /// Adds figures of one step.
    pub(super) fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> io::Result<()> {
        let summary: Vec<u8> =
            values.iter().flat_map(|&(name, value)| text(1, &scalar(name, value))).collect();
        self.write(&[time(seconds()), varint_field(2, step), text(5, &summary)].concat())
    }

    fn write(&mut self, event: &[u8]) -> io::Result<()> {
        self.0.write_all(&record(event)) // one call a record, so that a killed process leaves whole ones
    }
}

fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

fn record(event: &[u8]) -> Vec<u8> {
    let len = (event.len() as u64).to_le_bytes();
    [&len[..], &masked_crc(&len).to_le_bytes(), event, &masked_crc(event).to_le_bytes()].concat()
}

/// `Event.wall_time`, field 1, a double.
fn time(seconds: f64) -> Vec<u8> {
    [&[1 << 3 | 1][..], &seconds.to_le_bytes()].concat()
}

/// `Summary.Value { tag, simple_value }`: fields 1 and 2.
fn scalar(name: &str, value: f64) -> Vec<u8> {
    [&text(1, name.as_bytes())[..], &[2 << 3 | 5], &(value as f32).to_le_bytes()].concat()
}

/// A protobuf field of length and bytes.
fn text(field: u8, bytes: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2][..], &varint(bytes.len() as u64), bytes].concat()
}

fn varint_field(field: u8, value: u64) -> Vec<u8> {
    [&[field << 3][..], &varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// CRC-32C, rotated and shifted as the record format wants it.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli): the reflected polynomial 0x82f63b78, bit by bit, since records are short.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283); // the check value of CRC-32C
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa); // RFC 3720, B.4
    }

    #[test]
    fn a_scalar_is_the_protobuf_message_that_tensorboard_reads() {
        let expected = [b"\x0a\x04loss\x15".as_slice(), &1.5f32.to_le_bytes()].concat();
        assert_eq!(scalar("loss", 1.5), expected);
        assert_eq!(varint_field(2, 300), [0x10, 0xac, 0x02]);
    }

    #[test]
    fn a_file_is_whole_records_and_voids_later_steps_when_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(folder.path(), 300).unwrap();
        events.scalars(301, &[("loss", 2.0)]).unwrap();
        drop(EventFile::create(folder.path(), 0).unwrap()); // a second file in the same second
        let mut files: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len(), 2);

        let bytes = fs::read(&files[0]).unwrap();
        let (mut rest, mut events) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let len = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[..len + 16], record(&rest[12..12 + len]));
            events.push(&rest[12..12 + len]);
            rest = &rest[len + 16..];
        }
        assert_eq!(events.len(), 3);
        assert_eq!(events[0][9..], *b"\x1a\x0dbrain.Event:2");
        assert_eq!(events[1][9..], [0x10, 0xad, 0x02, 0x3a, 2, 8, 1]); // step 301, START
    }
}
