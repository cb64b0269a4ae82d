//! Who may do what: the table of route × scope, once for the whole product.
//!
//! Owns: [`Scope`], [`Scopes`], [`Access`], and [`ROUTES`]. Does not know: handlers, tokens.
//! Invariant: default deny. A route exists only if it stands here, with a scope or an explicit [`Access::Public`].

use std::fmt;

/// What a token may be allowed to do; a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Send readings.
    WriteReadings,
    /// Ask for statistics.
    ReadStats,
    /// See raw readings.
    ReadReadings,
    /// See which devices and series there are.
    ReadDevices,
    /// See what was refused.
    ReadDeadLetters,
    /// Take what was refused in again, or discard it.
    WriteDeadLetters,
    /// Everything.
    Admin,
}

impl Scope {
    /// Every scope there is.
    pub const ALL: [Self; 7] = [
        Self::WriteReadings,
        Self::ReadStats,
        Self::ReadReadings,
        Self::ReadDevices,
        Self::ReadDeadLetters,
        Self::WriteDeadLetters,
        Self::Admin,
    ];

    /// The word used in tokens.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WriteReadings => "write:readings",
            Self::ReadStats => "read:stats",
            Self::ReadReadings => "read:readings",
            Self::ReadDevices => "read:devices",
            Self::ReadDeadLetters => "read:dead-letters",
            Self::WriteDeadLetters => "write:dead-letters",
            Self::Admin => "admin",
        }
    }

    /// The scope of that word, if it is one.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of scopes. Prints as words between single spaces, as the claim `scope` holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// No scope.
    pub const NONE: Self = Self(0);

    /// Whether these allow what `scope` allows; `admin` allows everything.
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// Whether `scope` is one of these by its own name.
    pub const fn lists(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// These and `scope`.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | scope.bit())
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes of a list of words, for what a person types.
    ///
    /// # Errors
    /// A word that is no scope; the message names it and lists the choices.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut scopes = Self::NONE;
        for word in text.split_whitespace() {
            let scope = Scope::parse(word).ok_or_else(|| {
                let choices: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
                format!("`{word}` is not a scope; scopes are: {}", choices.join(", "))
            })?;
            scopes = scopes.with(scope);
        }
        Ok(scopes)
    }

    /// The scopes of a claim: words that are none of ours are another server's and allow nothing.
    pub fn of_claim(text: &str) -> Self {
        text.split(' ').filter_map(Scope::parse).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl From<Scope> for Scopes {
    fn from(scope: Scope) -> Self {
        Self::NONE.with(scope)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = Scope::ALL.into_iter().filter(|scope| self.lists(*scope)).map(Scope::as_str).collect();
        f.write_str(&words.join(" "))
    }
}

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing: no credentials are looked at.
    Public,
    /// Any token of ours.
    AnyToken,
    /// A token with this scope.
    Scope(Scope),
}

/// How a route words its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errors {
    /// `application/problem+json`.
    Problem,
    /// InfluxDB 1: `{"error": …}`.
    InfluxV1,
    /// InfluxDB 2: `{"code": …, "message": …}`.
    InfluxV2,
    /// OAuth 2.0, RFC 6749 §5.2: `{"error": …, "error_description": …}`.
    OAuth,
}

impl Errors {
    /// Whether it is InfluxDB's clients who read them.
    pub const fn are_influx(self) -> bool {
        matches!(self, Self::InfluxV1 | Self::InfluxV2)
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method; `HEAD` follows `GET` and is not listed.
    pub method: &'static str,
    /// The path as axum writes it, such as `/v1/dead-letters/{id}`.
    pub path: &'static str,
    /// What it asks of its caller.
    pub access: Access,
    /// How it words errors.
    pub errors: Errors,
    /// The role whose face has it: `gateway`, `rollup`, `api`, `issuer`, `process` for what is about the process itself, or
    /// `web` for the routes of every process.
    pub role: &'static str,
}

impl Route {
    /// Whether this line is about requests of `method`.
    pub fn takes(&self, method: &str) -> bool {
        self.method == method || (self.method == "GET" && method == "HEAD")
    }
}

/// Every route there is.
pub const ROUTES: &[Route] = &[
    gateway("POST", "/v1/readings", Access::Scope(Scope::WriteReadings), Errors::Problem),
    gateway("POST", "/api/v2/write", Access::Scope(Scope::WriteReadings), Errors::InfluxV2),
    gateway("POST", "/write", Access::Scope(Scope::WriteReadings), Errors::InfluxV1),
    // What InfluxDB's clients ask before they write, with or without credentials.
    gateway("GET", "/ping", Access::Public, Errors::InfluxV1),
    gateway("GET", "/health", Access::Public, Errors::InfluxV2),
    gateway("GET", "/ready", Access::Public, Errors::InfluxV2),
    gateway("GET", "/api/v2/health", Access::Public, Errors::InfluxV2),
    gateway("GET", "/api/v2/ready", Access::Public, Errors::InfluxV2),
    // Answers CREATE DATABASE with nothing done; it neither reads nor writes, so there is nothing to protect.
    gateway("GET", "/query", Access::Public, Errors::InfluxV1),
    gateway("POST", "/query", Access::Public, Errors::InfluxV1),
    api("/v1/stats", Access::Scope(Scope::ReadStats)),
    api("/v1/readings", Access::Scope(Scope::ReadReadings)),
    api("/v1/latest", Access::Scope(Scope::ReadReadings)),
    api("/v1/series", Access::Scope(Scope::ReadDevices)),
    api("/v1/status", Access::AnyToken),
    api("/v1/dead-letters", Access::Scope(Scope::ReadDeadLetters)),
    api("/v1/dead-letters/{id}", Access::Scope(Scope::ReadDeadLetters)),
    dead_letters("POST", "/v1/dead-letters/retry"),
    dead_letters("POST", "/v1/dead-letters/{id}/retry"),
    dead_letters("DELETE", "/v1/dead-letters/{id}"),
    Route { method: "POST", path: "/v1/seal", access: Access::Scope(Scope::Admin), errors: Errors::Problem, role: "rollup" },
    // Who asks for a token brings its own credentials, of another kind.
    Route { method: "POST", path: "/v1/token", access: Access::Public, errors: Errors::OAuth, role: "issuer" },
    Route { method: "GET", path: "/.well-known/jwks.json", access: Access::Public, errors: Errors::Problem, role: "issuer" },
    process("GET", "/v1/logging"),
    process("PUT", "/v1/logging"),
    web("/livez"),
    web("/readyz"),
    // What the API is, is no secret; nothing of anybody's data is in it.
    web("/openapi.json"),
    web("/docs"),
    web("/docs/page.css"),
    web("/docs/page.js"),
    // Counts and times of the process; nothing of any device.
    web("/metrics"),
];

const fn gateway(method: &'static str, path: &'static str, access: Access, errors: Errors) -> Route {
    Route { method, path, access, errors, role: "gateway" }
}

const fn api(path: &'static str, access: Access) -> Route {
    Route { method: "GET", path, access, errors: Errors::Problem, role: "api" }
}

const fn process(method: &'static str, path: &'static str) -> Route {
    Route { method, path, access: Access::Scope(Scope::Admin), errors: Errors::Problem, role: "process" }
}

/// What changes dead letters; it is beside what shows them.
const fn dead_letters(method: &'static str, path: &'static str) -> Route {
    Route { method, path, access: Access::Scope(Scope::WriteDeadLetters), errors: Errors::Problem, role: "api" }
}

const fn web(path: &'static str) -> Route {
    Route { method: "GET", path, access: Access::Public, errors: Errors::Problem, role: "web" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_print_as_they_are_read() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
        let scopes = Scopes::parse(" read:stats   write:readings ").unwrap();
        assert_eq!(scopes.to_string(), "write:readings read:stats");
        assert_eq!(Scopes::of_claim(&scopes.to_string()), scopes);
        assert!(Scopes::parse("").unwrap().is_empty());
    }

    #[test]
    fn an_unknown_scope_is_an_error_when_typed_and_nothing_in_a_token() {
        assert!(Scopes::parse("read:stats read:all").unwrap_err().contains("`read:all`"));
        assert_eq!(Scopes::of_claim("read:stats read:all ADMIN openid"), Scopes::from(Scope::ReadStats));
    }

    #[test]
    fn admin_allows_everything_and_nothing_else_does() {
        for allowed in Scope::ALL {
            for asked in Scope::ALL {
                let expected = allowed == asked || allowed == Scope::Admin;
                assert_eq!(Scopes::from(allowed).has(asked), expected, "{allowed} for {asked}");
            }
        }
        assert!(!Scopes::NONE.has(Scope::Admin));
    }

    #[test]
    fn a_route_stands_in_the_table_once() {
        for (n, route) in ROUTES.iter().enumerate() {
            assert!(route.path.starts_with('/') && route.method != "HEAD", "{route:?}");
            assert!(!ROUTES[..n].iter().any(|other| (other.method, other.path) == (route.method, route.path)), "{route:?}");
        }
    }

    #[test]
    fn only_the_listed_paths_are_public() {
        let public: Vec<&str> = ROUTES.iter().filter(|route| route.access == Access::Public).map(|route| route.path).collect();
        let expected = ["/ping", "/health", "/ready", "/api/v2/health", "/api/v2/ready", "/query", "/query"];
        let everywhere = ["/livez", "/readyz", "/openapi.json", "/docs", "/docs/page.css", "/docs/page.js", "/metrics"];
        assert_eq!(public, [&expected[..], &["/v1/token", "/.well-known/jwks.json"], &everywhere].concat());
    }
}
