//! The store on PostgreSQL 15 and later: the seam of [`headwater_core::store`] for any number of processes.
//!
//! Owns: the connection pool, migrations, tables, the views and the function that people read by (`docs/sql.md`); [`Store`] is `Ingestion`,
//! `Sealing` and `Queries`. Does not know: the log, HTTP, the roles, where its configuration comes from.
//!
//! Invariants:
//! * `Ok` of a commit is said after PostgreSQL's COMMIT, and `synchronous_commit` is never off; a connection lost between is
//!   [`StoreError::Unknown`](headwater_core::store::StoreError::Unknown).
//! * **Batch numbers rise in commit order, over all processes.** Blocks are copied under a provisional number that nobody else can see. The last
//!   act of a commit (the function `commit_batch`) moves the positions, then takes the next number from the row `counters.batch`, gives it to the
//!   blocks, and COMMIT follows in the same network message. The row's lock is held from there to the end of the transaction, so a smaller number
//!   was visible before a larger one was taken: no snapshot sees a batch without every batch below it, and none appears below one that was sealed.
//!   So "the first of a key in batch order wins" does not depend on when sealing ran, also where a key came through two partitions.
//! * A writer that stalls before that last message holds no position, no number and no row that another one needs; after it, nothing depends on it.
//! * A connection whose last call did not come to its end is never lent again: what it ran is cancelled and it is closed.
//! * A shard's version moves first in a replacement; a snapshot is one REPEATABLE READ transaction that ends at its deadline.
//!
//! Files: `config` settings, `tls`, `pool` connections, `error` what PostgreSQL says in the store's words, `arrays` binary arrays, `migrations`, `examine` a look at a server,
//! `store`.

mod arrays;
mod config;
mod error;
mod examine;
mod migrations;
mod pool;
mod store;
mod tls;

pub use config::Config;
pub use examine::{Examined, examine};
pub use store::{Begun, Mover, Source, Store, open, open_for_moving, open_for_reading};
