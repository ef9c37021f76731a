//! `strftime_now` of templates: the date, at Greenwich.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Error, ErrorKind};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// This moment, by a format of C's `strftime`.
pub(super) fn now(format: &str) -> Result<String, Error> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    at(since.as_secs(), format)
}

/// The moment `seconds` after 1970 began, by a format.
fn at(seconds: u64, format: &str) -> Result<String, Error> {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[(days as usize + 4) % 7]);
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut field = letters.next();
        let padded = field != Some('-');
        if !padded {
            field = letters.next();
        }
        let two = |it: u64| if padded { format!("{it:02}") } else { it.to_string() };
        let text = match field {
            Some('Y') => year.to_string(),
            Some('y') => two(year % 100),
            Some('m') => two(month),
            Some('d') => two(day),
            Some('H') => two(hour),
            Some('I') => two((hour + 11) % 12 + 1),
            Some('M') => two(minute),
            Some('S') => two(second),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.into(),
            Some('B') => month_name.into(),
            Some('b') => month_name[..3].into(),
            Some('A') => day_name.into(),
            Some('a') => day_name[..3].into(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => "UTC".into(),
            Some('%') => "%".into(),
            other => {
                let field = other.map_or_else(String::new, String::from);
                let line = format!("strftime_now knows no field %{field}");
                return Err(Error::new(ErrorKind::InvalidOperation, line));
            }
        };
        out.push_str(&text);
    }
    Ok(out)
}

/// Year, month and day of the day `days` after the first of 1970, by the Gregorian calendar.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let leaps = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let length = |year| if leaps(year) { 366 } else { 365 };
    while days >= length(year) {
        days -= length(year);
        year += 1;
    }
    let february = if leaps(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    (year, month as u64 + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // by Python's datetime.fromtimestamp(s, timezone.utc).strftime(format)
        for (seconds, wanted) in [
            (0, "01 Jan 1970 Thu 00:00:00 12 AM"),
            (951_827_696, "29 Feb 2000 Tue 12:34:56 12 PM"),
            (1_709_251_199, "29 Feb 2024 Thu 23:59:59 11 PM"),
            (4_107_542_400, "01 Mar 2100 Mon 00:00:00 12 AM"),
        ] {
            assert_eq!(at(seconds, "%d %b %Y %a %T %I %p").unwrap(), wanted);
        }
        assert_eq!(
            at(1_709_251_199, "%A, %-d. %B %F %y%%").unwrap(),
            "Thursday, 29. February 2024-02-29 24%"
        );
        assert!(at(0, "%Q").unwrap_err().to_string().contains("%Q"));
    }
}
