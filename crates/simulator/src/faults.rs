//! What goes wrong, how often, and to whom.
//!
//! Owns: the closed list of faults, their text (`duplicates=1%,late=2%`), and whether one happens to a reading. Does not know:
//! what a fault does to a reading (the stream does that).
//! Invariant: each is decided by the seed alone.

use crate::random::{happens, hash};
use std::fmt;

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $default:literal;)*) => {
        /// Something that goes wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$doc])* $variant,)*
        }

        impl Fault {
            /// Every fault.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name on the command line.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        /// A little of everything, as a demonstration wants it.
        const A_LITTLE: &[(Fault, f64)] = &[$((Fault::$variant, $default),)*];
    };
}

faults! {
    /// A reading is sent once more, with the device's next sample.
    Duplicates = "duplicates", 0.01;
    /// A request is sent again because its answer was lost: it was not read, or the connection was cut.
    Retries = "retries", 0.01;
    /// A reading is of one minute to one day ago.
    Late = "late", 0.01;
    /// A sample is sent after one to three later ones of its device.
    OutOfOrder = "out_of_order", 0.01;
    /// A reading lies one to thirty days ahead: refused.
    Future = "future", 0.001;
    /// What is sent is no reading: refused.
    Malformed = "malformed", 0.001;
    /// The value is no number: refused.
    Nan = "nan", 0.001;
    /// For eight samples the device's clock is wrong: set back, so that it measures times again that it has measured (conflicts),
    /// or at the end of 1969, as after a reset (refused).
    ClockJump = "clock_jump", 0.002;
    /// For eight samples the device cannot be reached; then it sends them all at once.
    Offline = "offline", 0.01;
}

/// Samples in a row that a wrong clock or a lost connection spoils.
pub(crate) const SPELL: u64 = 8;

/// How often each fault happens, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults([f64; Fault::ALL.len()]);

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self([0.0; Fault::ALL.len()]);

    /// A little of everything.
    pub fn a_little_of_everything() -> Self {
        A_LITTLE.iter().fold(Self::NONE, |faults, (fault, rate)| faults.with(*fault, *rate))
    }

    /// With this fault at this rate.
    #[must_use]
    pub fn with(mut self, fault: Fault, rate: f64) -> Self {
        self.0[fault as usize] = rate;
        self
    }

    /// How often it happens.
    pub const fn rate(&self, fault: Fault) -> f64 {
        self.0[fault as usize]
    }

    /// Reads `duplicates=1%,late=0.02`.
    ///
    /// # Errors
    /// What cannot be read, with the choices.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut faults = Self::NONE;
        let mut seen = [false; Fault::ALL.len()];
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, rate) = part.split_once('=').ok_or_else(|| format!("`{part}`: a fault is written NAME=RATE, such as late=2%"))?;
            let fault = Fault::ALL.iter().find(|fault| fault.as_str() == name.trim()).ok_or_else(|| unknown(name.trim()))?;
            if std::mem::replace(&mut seen[*fault as usize], true) {
                return Err(format!("`{}` stands twice", fault.as_str()));
            }
            faults = faults.with(*fault, rate_of(rate.trim())?);
        }
        Ok(faults)
    }

    /// Whether a fault happens to what `parts` name.
    pub(crate) fn happens(&self, fault: Fault, seed: u64, parts: [u64; 3]) -> bool {
        let rate = self.rate(fault);
        rate > 0.0 && happens(hash(seed, &[100 + fault as u64, parts[0], parts[1], parts[2]]), rate)
    }
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = Fault::ALL.iter().map(|fault| fault.as_str()).collect();
    format!("there is no fault `{name}`; choose of {}", names.join(", "))
}

/// `1%` or `0.01`.
fn rate_of(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is no rate; write 1% or 0.01, at most 100%");
    let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |percent| (percent, 100.0));
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let rate = number.parse::<f64>().ok().filter(|_| plain).ok_or_else(wrong)? / whole;
    if rate <= 1.0 { Ok(rate) } else { Err(wrong()) }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for fault in Fault::ALL {
            let rate = self.rate(*fault);
            if rate > 0.0 {
                write!(f, "{between}{}={rate}", fault.as_str())?;
                between = ",";
            }
        }
        Ok(())
    }
}
