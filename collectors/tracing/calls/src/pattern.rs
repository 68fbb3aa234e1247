//! Which functions are asked for: `--only 'shop.cart:*'`.

use std::fmt;

/// Where a function is, as far as the interpreter says.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// `co_filename`.
    pub file: &'a str,
    /// `__name__` of the module that its globals belong to; empty where it has none.
    pub module: &'a str,
    /// `co_qualname`, or `co_name` where the interpreter has no other.
    pub function: &'a str,
    /// `function` is a `co_qualname`.
    pub qualified: bool,
}

/// A set of functions.
///
/// | pattern | the functions |
/// |---|---|
/// | `shop.cart:Cart.total` | of this module with this qualified name; `*` stands for any text, also in the module's name |
/// | `shop.cart` | of this module and those below it |
/// | `django/db/**`, `*.py` | of files whose path, or the end of it from some folder on, is this; `*` stands for any text without `/`, `**` for any text |
///
/// Before 3.11 the interpreter does not know qualified names, and what follows the last dot of the pattern is compared with the plain name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Module(String),
    Function { module: String, function: String },
    File(String),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternError {
    /// It is empty, or a side of its `:` is.
    Empty,
    /// It holds a newline or another control character.
    Control,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PatternError::Empty => "a pattern, or a side of its `:`, is empty",
            PatternError::Control => "a pattern holds a control character",
        })
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Understands a pattern.
    ///
    /// # Errors
    ///
    /// [`PatternError`] if it cannot name anything.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        if text.chars().any(char::is_control) {
            return Err(PatternError::Control);
        }
        let what = if let Some((module, function)) = text.split_once(':') {
            if module.is_empty() || function.is_empty() {
                return Err(PatternError::Empty);
            }
            What::Function {
                module: module.to_owned(),
                function: function.to_owned(),
            }
        } else if text.is_empty() {
            return Err(PatternError::Empty);
        } else if text.contains('/') || text.ends_with(".py") {
            What::File(text.to_owned())
        } else {
            What::Module(text.to_owned())
        };
        Ok(Pattern {
            text: text.to_owned(),
            what,
        })
    }

    /// As it was typed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a function is one of those.
    #[must_use]
    pub fn matches(&self, place: &Place<'_>) -> bool {
        match &self.what {
            What::Module(module) => {
                glob(module, place.module)
                    || place
                        .module
                        .match_indices('.')
                        .any(|(dot, _)| glob(module, &place.module[..dot]))
            }
            What::Function { module, function } => {
                let function = if place.qualified {
                    function.as_str()
                } else {
                    function.rsplit('.').next().unwrap_or(function)
                };
                glob(module, place.module) && glob(function, place.function)
            }
            What::File(file) if file.starts_with('/') => path_glob(file, place.file),
            What::File(file) => {
                path_glob(file, place.file)
                    || place
                        .file
                        .match_indices('/')
                        .any(|(slash, _)| path_glob(file, &place.file[slash + 1..]))
            }
        }
    }
}

/// Whether `text` is `pattern`, in which `*` stands for any text.
fn glob(pattern: &str, text: &str) -> bool {
    wild(pattern.as_bytes(), text.as_bytes(), false)
}

/// The same for paths: `*` stops at a `/`, `**` does not.
fn path_glob(pattern: &str, text: &str) -> bool {
    wild(pattern.as_bytes(), text.as_bytes(), true)
}

/// Each star needs one more look at the text at the most, and only the last star of a kind is ever tried anew: what a `**` before it would gain by taking more,
/// a `*` behind it cannot lose, but for the `/` that stops it. So two places to go back to are kept, and it ends after `pattern * text * text` steps.
fn wild(pattern: &[u8], text: &[u8], path: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on in the pattern, and from which text, when the last `*` (or `**`) takes one character more.
    let mut star: Option<(usize, usize)> = None;
    let mut stars: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            if path && pattern.get(p + 1) != Some(&b'*') {
                star = Some((p + 1, t));
                p += 1;
            } else {
                while pattern.get(p) == Some(&b'*') {
                    p += 1;
                }
                star = None;
                stars = Some((p, t));
            }
            continue;
        }
        if p < pattern.len() && t < text.len() && pattern[p] == text[t] {
            (p, t) = (p + 1, t + 1);
            continue;
        }
        if p == pattern.len() && t == text.len() {
            return true;
        }
        match (star, stars) {
            (Some((back, from)), _) if from < text.len() && text[from] != b'/' => {
                star = Some((back, from + 1));
                (p, t) = (back, from + 1);
            }
            (_, Some((back, from))) if from < text.len() => {
                star = None;
                stars = Some((back, from + 1));
                (p, t) = (back, from + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place<'a>(file: &'a str, module: &'a str, function: &'a str) -> Place<'a> {
        Place {
            file,
            module,
            function,
            qualified: true,
        }
    }

    fn matches(pattern: &str, place: &Place<'_>) -> bool {
        Pattern::parse(pattern).unwrap().matches(place)
    }

    #[test]
    fn functions_of_a_module() {
        let total = place("/srv/shop/cart.py", "shop.cart", "Cart.total");
        assert!(matches("shop.cart:*", &total));
        assert!(matches("shop.*:Cart.*", &total));
        assert!(matches("*:*.total", &total));
        assert!(!matches("shop:*", &total));
        assert!(!matches("shop.cart:total", &total));
        let unqualified = Place {
            function: "total",
            qualified: false,
            ..total
        };
        assert!(matches("shop.cart:Cart.total", &unqualified));
        assert!(!matches("shop.cart:Cart.price", &unqualified));
    }

    #[test]
    fn a_module_and_those_below() {
        assert!(matches("shop", &place("", "shop.cart.lines", "f")));
        assert!(matches("shop.cart", &place("", "shop.cart.lines", "f")));
        assert!(matches("shop.cart", &place("", "shop.cart", "f")));
        assert!(!matches("shop.car", &place("", "shop.cart", "f")));
    }

    #[test]
    fn files() {
        let file = place(
            "/usr/lib/python3/django/db/models/query.py",
            "django.db.models.query",
            "f",
        );
        assert!(matches("django/db/**", &file));
        assert!(matches("/usr/**/query.py", &file));
        assert!(matches("models/*.py", &file));
        assert!(matches("query.py", &file));
        assert!(!matches("db/*.py", &file));
        assert!(!matches("/django/db/**", &file));
        assert!(!matches("uery.py", &file));
    }

    #[test]
    fn what_is_no_pattern() {
        for (text, error) in [
            ("", PatternError::Empty),
            (":f", PatternError::Empty),
            ("m:", PatternError::Empty),
            ("a\nb", PatternError::Control),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text:?}");
        }
    }

    /// The definition, by trying everything.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|n| naive(rest, &text[n..])),
            [b'*', rest @ ..] => (0..=text.len())
                .take_while(|n| !text[..*n].contains(&b'/'))
                .any(|n| naive(rest, &text[n..])),
            [first, rest @ ..] => text.first() == Some(first) && naive(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn paths_match_as_defined(pattern in "[ab/*]{0,9}", text in "[ab/]{0,9}") {
            // Three stars in a row are two, which the definition above does not say.
            prop_assume!(!pattern.contains("***"));
            prop_assert_eq!(path_glob(&pattern, &text), naive(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
