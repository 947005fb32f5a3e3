//! Values that the vault makes itself.

use bursar_seal::{Random, RandomError, Secret};
use zeroize::Zeroizing;

use crate::value::{MAX_VALUE_BYTES, TokenValue};

/// Random bits that a generated value has at least, beside its prefix.
const MIN_BITS: u32 = 128;

/// The characters of a generated value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// `0-9`, `A-Z`, `a-z`: 5.95 bits a character.
    Base62,
    /// `0-9`, `a-f`: 4 bits a character.
    Hex,
}

impl Format {
    const fn alphabet(self) -> &'static [u8] {
        match self {
            Self::Base62 => b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            Self::Hex => b"0123456789abcdef",
        }
    }

    /// The fewest random characters that carry 128 bits.
    const fn min_length(self) -> u16 {
        match self {
            Self::Base62 => 22,
            Self::Hex => 32,
        }
    }
}

/// Why a value cannot be generated.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GenerateError {
    /// Could be guessed.
    #[error("{length} random characters carry less than {MIN_BITS} bits; use at least {min}")]
    TooShort {
        /// Random characters asked for.
        length: u16,
        /// The fewest of this format.
        min: u16,
    },
    /// Longer than any token may be.
    #[error("prefix and random characters together have at most {MAX_VALUE_BYTES} bytes")]
    TooLong,
}

/// What a generated value looks like.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GenerateSpec {
    format: Format,
    length: u16,
    prefix: String,
}

impl GenerateSpec {
    /// `length` random characters of `format` behind `prefix`, which is not
    /// secret.
    ///
    /// # Errors
    /// [`GenerateError`] for less than 128 random bits or a value longer than a
    /// token may be.
    pub fn new(format: Format, length: u16, prefix: String) -> Result<Self, GenerateError> {
        let min = format.min_length();
        if length < min {
            return Err(GenerateError::TooShort { length, min });
        }
        if prefix.len() + usize::from(length) > MAX_VALUE_BYTES {
            return Err(GenerateError::TooLong);
        }
        Ok(Self {
            format,
            length,
            prefix,
        })
    }

    /// A new value.
    pub(crate) fn generate(&self, random: &dyn Random) -> Result<TokenValue, RandomError> {
        let alphabet = self.format.alphabet();
        // Bytes from here on would make the first characters likelier.
        let fair = 256 - 256 % alphabet.len();
        let length = self.prefix.len() + usize::from(self.length);

        // The capacity is final: a buffer that grows leaves copies behind.
        let mut value = Vec::with_capacity(length);
        value.extend_from_slice(self.prefix.as_bytes());
        let mut bytes = Zeroizing::new([0; 64]);
        while value.len() < length {
            random.fill(&mut *bytes)?;
            let fitting = bytes
                .iter()
                .map(|byte| usize::from(*byte))
                .filter(|byte| *byte < fair);
            value.extend(
                fitting
                    .map(|byte| alphabet[byte % alphabet.len()])
                    .take(length - value.len()),
            );
        }
        Ok(TokenValue::generated(Secret::from(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bursar_seal::SystemRandom;

    fn generate(format: Format, length: u16, prefix: &str) -> String {
        let spec = GenerateSpec::new(format, length, prefix.to_owned()).unwrap();
        String::from_utf8(spec.generate(&SystemRandom).unwrap().expose().to_vec()).unwrap()
    }

    #[test]
    fn a_generated_value_has_its_prefix_length_and_alphabet() {
        let value = generate(Format::Hex, 40, "ghp_");
        assert!(value.starts_with("ghp_") && value.len() == 44);
        assert!(
            value[4..]
                .bytes()
                .all(|b| Format::Hex.alphabet().contains(&b))
        );
        assert_ne!(value, generate(Format::Hex, 40, "ghp_"));
    }

    #[test]
    fn every_character_of_the_alphabet_comes_up() {
        let value = generate(Format::Base62, 20_000, "");
        for character in Format::Base62.alphabet() {
            assert!(
                value.as_bytes().contains(character),
                "{}",
                *character as char
            );
        }
    }

    #[test]
    fn bytes_that_would_favour_some_characters_are_skipped() {
        struct Counting(std::sync::atomic::AtomicUsize);
        impl Random for Counting {
            fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
                for byte in out {
                    *byte = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) as u8;
                }
                Ok(())
            }
        }
        // 0 to 255 in turn: each character four times, and 248 to 255 never used.
        let spec = GenerateSpec::new(Format::Base62, 248, String::new()).unwrap();
        let value = spec.generate(&Counting(0.into())).unwrap();
        for character in Format::Base62.alphabet() {
            assert_eq!(value.expose().iter().filter(|b| *b == character).count(), 4);
        }
    }

    #[test]
    fn less_than_128_bits_and_more_than_a_token_are_refused() {
        let spec = |format, length, prefix| GenerateSpec::new(format, length, prefix).err();
        let short = |length, min| Some(GenerateError::TooShort { length, min });
        assert_eq!(spec(Format::Hex, 31, String::new()), short(31, 32));
        assert_eq!(spec(Format::Base62, 21, String::new()), short(21, 22));
        assert_eq!(spec(Format::Base62, 22, String::new()), None);
        assert_eq!(
            spec(Format::Hex, 32, "x".repeat(32_737)),
            Some(GenerateError::TooLong)
        );
    }
}
