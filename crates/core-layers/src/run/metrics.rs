//! Figures over time: a line of JSON a report, and the same for TensorBoard.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::PathBuf,
};

use serde::Deserialize;
use serde_json::json;

use super::{METRICS, RunError, RunFolder, events::EventFile};

/// Appends to `metrics.jsonl` and to a TensorBoard event file of a run.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    lines: File,
    events: EventFile,
}

impl Metrics {
    /// The metrics of a run whose last save was at `last_step` (0: a new run).
    ///
    /// Lines beyond that step, which will be written again, are cut off, as is a line that was not finished. TensorBoard
    /// gets a new file that voids the steps beyond.
    ///
    /// # Errors
    /// When the files cannot be read or written.
    pub fn open(run: &RunFolder, last_step: u64) -> Result<Self, RunError> {
        let path = run.file(METRICS);
        let open = File::options().read(true).append(true).create(true).open(&path);
        let lines = open
            .and_then(|lines| {
                lines.set_len(len_until(&lines, last_step)?)?;
                Ok(lines)
            })
            .map_err(RunError::io(&path))?;
        let events = EventFile::create(run.path(), last_step).map_err(RunError::io(run.path()))?;
        Ok(Self { path, lines, events })
    }

    /// Adds the figures of one step, each a name and a number; a number that is not finite becomes null in JSON.
    ///
    /// # Errors
    /// When they cannot be written, for example to a full disk.
    pub fn report(&mut self, step: u64, values: &[(&str, f64)]) -> Result<(), RunError> {
        let figures: Vec<String> = values
            .iter()
            .map(|&(name, value)| format!(",{}:{}", json!(name), json!(value)))
            .collect();
        let line = format!("{{\"step\":{step}{}}}\n", figures.concat()); // not a map, which would sort its keys
        self.lines
            .write_all(line.as_bytes())
            .and_then(|()| self.events.scalars(step, values))
            .map_err(RunError::io(&self.path))
    }

    /// Puts what was reported on the disk: before a checkpoint says that it is there.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn sync(&self) -> Result<(), RunError> {
        self.lines.sync_data().map_err(RunError::io(&self.path))
    }
}

/// Bytes of the leading lines that are whole and speak of steps up to `last_step`.
fn len_until(lines: &File, last_step: u64) -> io::Result<u64> {
    #[derive(Deserialize)]
    struct Line {
        step: u64,
    }
    let (mut reader, mut len) = (BufReader::new(lines), 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        let kept = line.ends_with(b"\n")
            && serde_json::from_slice(&line).is_ok_and(|line: Line| line.step <= last_step);
        if !kept {
            return Ok(len);
        }
        len += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn report(metrics: &mut Metrics, steps: impl IntoIterator<Item = u64>) {
        for step in steps {
            metrics.report(step, &[("loss", 1.0 / step as f64), ("rate", 1e-3)]).unwrap();
        }
    }

    #[test]
    fn a_killed_and_resumed_run_has_the_lines_of_one_that_was_not() {
        let folder = tempfile::tempdir().unwrap();
        let whole = RunFolder::create(&folder.path().join("whole"), false).unwrap();
        report(&mut Metrics::open(&whole, 0).unwrap(), 1..=9);

        let killed = RunFolder::create(&folder.path().join("killed"), false).unwrap();
        let mut metrics = Metrics::open(&killed, 0).unwrap();
        report(&mut metrics, 1..=7);
        metrics.lines.write_all(b"{\"step\":8,\"lo").unwrap(); // SIGKILL in the middle of a line
        drop(metrics);
        report(&mut Metrics::open(&killed, 5).unwrap(), 6..=9);

        let lines = |run: &RunFolder| fs::read_to_string(run.file(METRICS)).unwrap();
        assert_eq!(lines(&killed), lines(&whole));
        assert_eq!(lines(&whole).lines().nth(1), Some(r#"{"step":2,"loss":0.5,"rate":0.001}"#));
    }

    #[test]
    fn an_unfinished_line_is_cut_off_even_where_no_step_is() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(folder.path(), false).unwrap();
        fs::write(run.file(METRICS), "{\"step\":1}\n{\"step\":2}").unwrap();
        drop(Metrics::open(&run, 9).unwrap());
        assert_eq!(fs::read_to_string(run.file(METRICS)).unwrap(), "{\"step\":1}\n");
    }

    #[test]
    fn a_number_that_is_none_is_null() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(folder.path(), false).unwrap();
        Metrics::open(&run, 0).unwrap().report(3, &[("loss", f64::NAN)]).unwrap();
        assert_eq!(fs::read_to_string(run.file(METRICS)).unwrap(), "{\"step\":3,\"loss\":null}\n");
    }
}
