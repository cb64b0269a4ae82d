//! How a suite becomes tests: one `#[test]` for each property, with a deadline, and exceptions that stay visible.
//!
//! Owns: [`run`], the waiting helpers and the macro behind both suites. Does not know: what a property says.

use std::time::Duration;
use tokio::time;

/// The longest that a whole property may take; far beyond what any needs, so that a hang becomes a failure.
const PROPERTY_DEADLINE: Duration = Duration::from_secs(60);
/// The longest that one awaited thing may take.
const STEP_DEADLINE: Duration = Duration::from_secs(10);

/// Runs one property on a runtime of its own.
///
/// # Panics
/// When the property does, or has not ended after a minute.
pub fn run(property: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("start a runtime");
    runtime.block_on(async { time::timeout(PROPERTY_DEADLINE, property).await.expect("the property ends within a minute") });
}

/// What `make` makes.
#[doc(hidden)]
pub fn made<H>(make: impl FnOnce() -> H) -> H {
    make()
}

/// Awaits something that must come soon.
///
/// # Panics
/// When it has not come after ten seconds.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    time::timeout(STEP_DEADLINE, future).await.expect("it comes within ten seconds")
}

/// Asks again and again until the answer is `Some`.
///
/// # Panics
/// When it is not after ten seconds; `what` says what was waited for.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = time::Instant::now() + STEP_DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(time::Instant::now() < deadline, "waited ten seconds for {what}");
        time::sleep(Duration::from_millis(2)).await;
    }
}

/// One `#[test]` for each listed property; an excepted one is ignored with its reason. The first argument is a dollar sign,
/// which a macro that defines a macro cannot write itself.
#[doc(hidden)]
#[macro_export]
macro_rules! __suite {
    (($d:tt) $suite:ident, $make:expr, [$($except:ident = $reason:literal),*], [$($property:ident)*]) => {
        mod $suite {
            use super::*;

            // An exception from a property that does not exist does not compile.
            const _: () = { $(let _ = $crate::$suite::$except;)* };

            macro_rules! property {
                $(($except) => {
                    #[test]
                    #[ignore = $reason]
                    fn $except() {
                        $crate::run(async { $crate::$suite::$except(&mut $crate::made($make)).await });
                    }
                };)*
                ($d name:ident) => {
                    #[test]
                    fn $d name() {
                        $crate::run(async { $crate::$suite::$d name(&mut $crate::made($make)).await });
                    }
                };
            }
            $(property!($property);)*
        }
    };
}
