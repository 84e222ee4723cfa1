//! The `Date` header. The clock is the caller's: a reactor formats once a second and reuses the text.

/// A date as HTTP writes it (`Sun, 06 Nov 1994 08:49:37 GMT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpDate([u8; 29]);

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]; // day 0 of the epoch was a Thursday
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const SECONDS_PER_DAY: u64 = 86_400;
/// The last second of the year 9999, the last one that four digits can write.
const UNIX_SECONDS_MAX: u64 = 253_402_300_799;

impl HttpDate {
    /// The date `unix_seconds` after the start of 1970, UTC. Times behind the year 9999 stay there.
    pub fn from_unix_seconds(unix_seconds: u64) -> Self {
        let seconds = unix_seconds.min(UNIX_SECONDS_MAX);
        let days = seconds / SECONDS_PER_DAY;
        let (year, month, day) = civil_from_days(days);
        let in_day = seconds % SECONDS_PER_DAY;
        let text = format!(
            "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
            WEEKDAYS[(days % 7) as usize],
            MONTHS[month as usize - 1],
            in_day / 3600,
            in_day / 60 % 60,
            in_day % 60
        );
        HttpDate(text.as_bytes().try_into().expect("every part has a fixed width"))
    }

    /// The 29 characters.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of a year, in eras of 400 years, which all have the
/// same number of days.
pub fn civil_from_days(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    const DAYS_TO_EPOCH: u64 = 719_468; // from 0000-03-01 to 1970-01-01
    let since_march_0 = days + DAYS_TO_EPOCH;
    let era = since_march_0 / DAYS_PER_ERA;
    let day_of_era = since_march_0 % DAYS_PER_ERA;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}
