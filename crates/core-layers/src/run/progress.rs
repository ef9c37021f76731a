//! How far a long job is: a bar on a terminal, a line now and then elsewhere. Always on stderr.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// Time between two lines where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// Steps done, rate, time left and a message.
pub struct Progress {
    shown: Shown,
    label: String,
    start: u64,
    done: u64,
    total: u64,
    message: String,
    since: Instant,
}

enum Shown {
    Bar(ProgressBar),
    Lines { out: Box<dyn Write + Send>, last: Instant },
    Nothing,
}

impl Progress {
    /// Progress from `start` steps (those of an earlier run) to `total`; shows nothing when `quiet`.
    pub fn new(label: &str, start: u64, total: u64, quiet: bool) -> Self {
        let shown = if quiet {
            Shown::Nothing
        } else if io::stderr().is_terminal() {
            Shown::Bar(bar(label, start, total))
        } else {
            Shown::Lines { out: Box::new(io::stderr()), last: Instant::now() }
        };
        Self::showing(shown, label, start, total)
    }

    fn showing(shown: Shown, label: &str, start: u64, total: u64) -> Self {
        let (label, message) = (label.to_owned(), String::new());
        Self { shown, label, start, done: start, total, message, since: Instant::now() }
    }

    /// The steps up to `start` are those of an earlier run: they count for neither rate nor time left.
    pub fn start_from(&mut self, start: u64) {
        (self.start, self.done, self.since) = (start, start, Instant::now());
        if let Shown::Bar(bar) = &self.shown {
            bar.set_position(start);
            bar.reset_eta();
        }
    }

    /// `done` steps are done; `message` holds the latest figures.
    pub fn update(&mut self, done: u64, message: &str) {
        self.done = done;
        message.clone_into(&mut self.message);
        let line = self.line(self.since.elapsed());
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(self.message.clone());
            }
            Shown::Lines { out, last } if last.elapsed() >= INTERVAL => {
                *last = Instant::now();
                say(out, &line);
            }
            Shown::Lines { .. } | Shown::Nothing => {}
        }
    }

    /// Says something that stays, above the bar.
    pub fn note(&mut self, line: &str) {
        match &mut self.shown {
            Shown::Bar(bar) => bar.suspend(|| say(&mut io::stderr(), line)),
            Shown::Lines { out, .. } => say(out, line),
            Shown::Nothing => {}
        }
    }

    /// Leaves one last line.
    pub fn finish(mut self) {
        let line = self.line(self.since.elapsed());
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
        match &mut self.shown {
            Shown::Bar(_) => say(&mut io::stderr(), &line),
            Shown::Lines { out, .. } => say(out, &line),
            Shown::Nothing => {}
        }
    }

    fn line(&self, elapsed: Duration) -> String {
        let Self { label, start, done, total, message, .. } = self;
        let rate = (done - start) as f64 / elapsed.as_secs_f64().max(1e-9);
        let time = if done < total && done > start {
            format!("{} left", clock((total - done) as f64 / rate))
        } else {
            format!("took {}", clock(elapsed.as_secs_f64()))
        };
        let separator = if message.is_empty() { "" } else { ", " };
        format!("{label} {done}/{total}, {}/s, {time}{separator}{message}", short(rate))
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line(self.since.elapsed()))
    }
}

fn bar(label: &str, start: u64, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix} {bar:30.cyan/dim} {pos}/{len} {rate:.dim}/s {eta} left  {msg}",
    )
    .expect("a template that is right");
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = out.write_str(&short(state.per_sec())); // a rate that cannot be shown is no reason to stop
    };
    let style = style.with_key("rate", rate).progress_chars("=> ");
    let bar = ProgressBar::new(total).with_style(style).with_prefix(label.to_owned());
    bar.set_position(start);
    bar.reset_eta(); // the steps of an earlier run are no measure of this one
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Progress that cannot be shown is no reason to stop.
fn say(out: &mut dyn Write, line: &str) {
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Seconds as `12 s`, `3:04` or `2:03:04`.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m}:{s:02}"),
        (h, m, s) => format!("{h}:{m:02}:{s:02}"),
    }
}

/// Three significant digits or so.
fn short(x: f64) -> String {
    let digits = if x < 10.0 { 2 } else { usize::from(x < 100.0) };
    format!("{x:.digits$}")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn rate_and_time_left_count_only_the_steps_of_this_process() {
        let mut progress = Progress::showing(Shown::Nothing, "train", 0, 400);
        progress.start_from(100);
        progress.update(200, "loss 1.25");
        let line = progress.line(Duration::from_secs(50));
        assert_eq!(line, "train 200/400, 2.00/s, 1:40 left, loss 1.25");
        progress.update(400, "");
        assert_eq!(progress.line(Duration::from_mins(125)), "train 400/400, 0.04/s, took 2:05:00");
    }

    #[test]
    fn without_a_terminal_many_updates_are_few_lines() {
        let page = Page::default();
        let shown = Shown::Lines { out: Box::new(page.clone()), last: Instant::now() };
        let mut progress = Progress::showing(shown, "train", 0, 1000);
        (1..=1000).for_each(|step| progress.update(step, "loss 2"));
        progress.note("saved");
        progress.finish();
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0], "saved");
        assert!(
            lines[1].starts_with("train 1000/1000, ") && lines[1].ends_with(", loss 2"),
            "{text}"
        );
    }
}
