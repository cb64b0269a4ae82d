//! One scenario on both kinds of stack: everything embedded, and Kafka with PostgreSQL.
//!
//! `on_both! { name, … }` makes the tests `name::embedded` and `name::scaled` of `fn name(stack: Stack)`, of `fn name(builder: Builder)` where the
//! scenario sets more, or of `fn name(kind: Kind)` where it starts several. What knows of files is a plain test of an embedded stack.

use crate::backends::Backends;
use crate::stack::{Builder, Stack};

/// What stands behind the seams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Files of the data directory.
    Embedded,
    /// A topic of a real Kafka and a database of a real PostgreSQL.
    Scaled,
}

impl Kind {
    /// A stack to be started, on backends of its own.
    pub(crate) fn builder(self) -> Builder {
        match self {
            Self::Embedded => Builder::default(),
            // As whoever runs a fixed set of processes does: one that was killed takes its partitions back at once, not when its session is over.
            Self::Scaled => Builder::default().on(&Backends::shared()).env("HEADWATER_LOG__GROUP_INSTANCE_ID", "the-one"),
        }
    }

    /// A stack on backends of its own.
    pub(crate) fn start(self) -> Stack {
        self.builder().start()
    }
}

impl From<Kind> for Builder {
    fn from(kind: Kind) -> Self {
        kind.builder()
    }
}

impl From<Kind> for Stack {
    fn from(kind: Kind) -> Self {
        kind.start()
    }
}

macro_rules! on_both {
    ($($scenario:ident),+ $(,)?) => {
        $(mod $scenario {
            use crate::both::Kind;

            #[test]
            fn embedded() {
                super::$scenario(Kind::Embedded.into());
            }

            #[test]
            fn scaled() {
                super::$scenario(Kind::Scaled.into());
            }
        })+
    };
}

pub(crate) use on_both;
