//! How a table of settings becomes a struct.
//!
//! Each side has one table: [`server_settings`](crate::server_settings) and [`client_settings`](crate::client_settings). A row
//! is one setting: its doc, its name, its type, its default and its smallest value. The struct, its `Default` and the check
//! of the smallest values are made from the table here. A binding makes its own face from the same table: a table macro
//! calls the macro that it is given with all of its rows.
//!
//! A default stands in brackets. It is a Rust expression, or one of these forms, which a binding can write in its own
//! language, too: `seconds(5)`, `text("ESMTP")`, `nothing` for an empty list, `word("off", TlsMode::Off)` and
//! `words("['a']", expression)`.

use std::fmt;

/// A setting is smaller than its table allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    /// The name of the setting.
    pub setting: &'static str,
    /// The smallest value that is allowed.
    pub least: usize,
    /// The value that was given.
    pub given: usize,
}

impl fmt::Display for TooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected at least {}, not {}", self.setting, self.least, self.given)
    }
}

/// The Rust value of a default.
macro_rules! default_of {
    (nothing) => {
        Vec::new()
    };
    (seconds($seconds:literal)) => {
        std::time::Duration::from_secs($seconds)
    };
    (text($text:literal)) => {
        String::from($text)
    };
    (word($word:literal, $value:expr)) => {
        $value
    };
    (words($words:literal, $value:expr)) => {
        $value
    };
    ($($value:tt)*) => {
        $($value)*
    };
}

/// The struct of a table.
macro_rules! settings_struct {
    (
        { $(#[$attribute:meta])* $Settings:ident }
        $( $(#[doc = $doc:literal])+ $name:ident: $type:ty = [$($default:tt)*] $(, at least $least:literal)?; )*
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug)]
        pub struct $Settings {
            $( $(#[doc = $doc])+ pub $name: $type, )*
        }

        impl Default for $Settings {
            fn default() -> Self {
                Self { $( $name: default_of!($($default)*), )* }
            }
        }

        impl $Settings {
            /// Find the first setting that is smaller than the table allows.
            pub(crate) fn check_least(&self) -> Result<(), $crate::session::TooSmall> {
                $( $(
                    if self.$name < $least {
                        return Err($crate::session::TooSmall {
                            setting: stringify!($name),
                            least: $least,
                            given: self.$name,
                        });
                    }
                )? )*
                Ok(())
            }
        }
    };
}
