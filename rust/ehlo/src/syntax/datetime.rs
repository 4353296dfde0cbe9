//! Dates of HOLDUNTIL (RFC 4865) and RRVS (RFC 7293), in the form of RFC 3339 5.6.

use std::error::Error;
use std::fmt;

/// A moment, with the offset it was written with.
///
/// ```abnf
/// date-time = full-date "T" full-time              ; RFC 3339 5.6
/// full-date = 4DIGIT "-" 2DIGIT "-" 2DIGIT
/// full-time = 2DIGIT ":" 2DIGIT ":" 2DIGIT [time-secfrac] time-offset
/// time-offset = "Z" / ("+" / "-") 2DIGIT ":" 2DIGIT
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DateTime {
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    offset: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Offset {
    Zulu,
    /// `-00:00`: UTC is known, the local offset is not (RFC 3339 4.3).
    Unknown,
    Minutes(i16),
}

/// Whether a fraction of a second may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fraction {
    /// It may, and is dropped.
    Dropped,
    /// It may not (RFC 7293 3.1).
    Refused,
}

/// Not a date-time of RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTimeError;

impl fmt::Display for DateTimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a date-time of RFC 3339")
    }
}

impl Error for DateTimeError {}

impl DateTime {
    /// Reads a date-time. Second 60 is a leap second and allowed; it is not checked whether there was one.
    ///
    /// # Errors
    /// If `text` is anything else.
    pub fn parse(text: &str, fraction: Fraction) -> Result<Self, DateTimeError> {
        Self::read(text.as_bytes(), fraction).ok_or(DateTimeError)
    }

    fn read(text: &[u8], fraction: Fraction) -> Option<Self> {
        let (fixed, mut zone) = text.split_at_checked(19)?;
        let [.., b'-', _, _, b'-', _, _, b'T' | b't', _, _, b':', _, _, b':', _, _] = fixed else { return None };
        if let Some(digits) = zone.strip_prefix(b".") {
            let length = digits.iter().take_while(|octet| octet.is_ascii_digit()).count();
            if length == 0 || fraction == Fraction::Refused {
                return None;
            }
            zone = &digits[length..];
        }
        let offset = match zone {
            b"Z" | b"z" => Offset::Zulu,
            b"-00:00" => Offset::Unknown,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
                let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                let minutes = i16::try_from(hours * 60 + minutes).ok()?;
                Offset::Minutes(if *sign == b'-' { -minutes } else { minutes })
            }
            _ => return None,
        };
        let two = |at: usize| number(&fixed[at..at + 2]).and_then(|value| u8::try_from(value).ok());
        let moment = Self {
            year: number(&fixed[..4])?,
            month: two(5)?,
            day: two(8)?,
            hour: two(11)?,
            minute: two(14)?,
            second: two(17)?,
            offset,
        };
        let valid = (1..=12).contains(&moment.month)
            && (1..=days_in_month(moment.year, moment.month)).contains(&moment.day)
            && moment.hour <= 23
            && moment.minute <= 59
            && moment.second <= 60;
        valid.then_some(moment)
    }

    /// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted.
    #[must_use]
    pub fn unix_seconds(&self) -> i64 {
        // Days from the civil calendar, with years that begin in March so that the leap day is their last.
        let year = i64::from(self.year) - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month = (i64::from(self.month) + 9) % 12;
        let day_of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let seconds = i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        days * 86_400 + seconds - i64::from(self.offset_minutes()) * 60
    }

    /// Minutes that local time is ahead of UTC.
    #[must_use]
    pub fn offset_minutes(&self) -> i16 {
        match self.offset {
            Offset::Zulu | Offset::Unknown => 0,
            Offset::Minutes(minutes) => minutes,
        }
    }

    /// Whether it is written as UTC.
    #[must_use]
    pub fn is_utc(&self) -> bool {
        self.offset_minutes() == 0
    }
}

fn number(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0u16, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u16::from(digit - b'0')))
}

fn days_in_month(year: u16, month: u8) -> u8 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second, offset } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        match offset {
            Offset::Zulu => f.write_str("Z"),
            Offset::Unknown => f.write_str("-00:00"),
            Offset::Minutes(minutes) => {
                let sign = if *minutes < 0 { '-' } else { '+' };
                write!(f, "{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<DateTime> {
        DateTime::parse(text, Fraction::Refused).ok()
    }

    // S-PAR-32
    #[test]
    fn reads_and_writes() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2014-04-03T23:01:00Z", 1_396_566_060),
            ("2000-02-29T12:00:00+01:30", 951_820_200),
            ("1969-12-31T23:59:59-00:00", -1),
            ("1996-12-19T16:39:57-08:00", 851_042_397),
            ("0000-01-01T00:00:00Z", -62_167_219_200),
            ("9999-12-31T23:59:60Z", 253_402_300_800),
        ] {
            let moment = parse(text).unwrap();
            assert_eq!(moment.unix_seconds(), seconds, "{text}");
            assert_eq!(moment.to_string(), text);
        }
        assert_eq!(parse("2014-04-03t23:01:00z"), parse("2014-04-03T23:01:00Z"));
    }

    // S-PAR-32
    #[test]
    fn refuses() {
        for text in [
            "",
            "2014-04-03",
            "2014-04-03T23:01:00",
            "2014-04-03 23:01:00Z",
            "2014-13-01T00:00:00Z",
            "2014-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2014-04-31T00:00:00Z",
            "2014-04-03T24:00:00Z",
            "2014-04-03T23:60:00Z",
            "2014-04-03T23:01:61Z",
            "2014-04-03T23:01:00.5Z",
            "2014-04-03T23:01:00.Z",
            "2014-04-03T23:01:00+24:00",
            "2014-04-03T23:01:00+0100",
            "2014-04-03T23:01:00ZZ",
            "+014-04-03T23:01:00Z",
            "2014-4-03T23:01:00Z",
            "2014-00-03T23:01:00Z",
            "2014-04-00T23:01:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(DateTime::parse("2014-04-03T23:01:00.5Z", Fraction::Dropped).is_ok());
        assert!(DateTime::parse("2014-04-03T23:01:00.Z", Fraction::Dropped).is_err());
    }
}
