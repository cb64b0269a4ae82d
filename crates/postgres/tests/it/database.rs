//! A database of its own for each test, made from a migrated template and dropped afterwards.
//!
//! Owns: [`Database`], [`Machine`]. Does not know: what is tested.
//! Invariant: without `POSTGRES_URL` a test fails and says what starts a server; it never passes by returning early.

use headwater_contract::store::{Store as AnyStore, StoreHarness};
use headwater_core::BoxFuture;
use headwater_core::clock::SystemClock;
use headwater_postgres::{Config, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

const MIGRATIONS: [&str; 4] = [
    include_str!("../../src/sql/0001_init.sql"),
    include_str!("../../src/sql/0002_views.sql"),
    include_str!("../../src/sql/0003_moves.sql"),
    include_str!("../../src/sql/0004_letters.sql"),
];

static MADE: AtomicU64 = AtomicU64::new(0);

/// The server that tests may do with what they like.
pub(crate) fn server_url() -> String {
    #[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
    let url = std::env::var("POSTGRES_URL");
    url.expect(
        "POSTGRES_URL names a PostgreSQL server and a superuser: run `cargo xtask servers start`, which starts one and says what to set",
    )
}

/// The URL of another database of the server, and of another user where one is named.
pub(crate) fn url_of(database: &str, user: Option<&str>) -> String {
    let url = server_url();
    let (head, query) = url.split_once('?').map_or((url.as_str(), None), |(head, query)| (head, Some(query)));
    let (scheme, rest) = head.split_once("://").expect("a URL");
    let authority = rest.split('/').next().expect("a host");
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let authority = user.map_or_else(|| authority.to_owned(), |user| format!("{user}@{host}"));
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{scheme}://{authority}/{database}{query}")
}

/// A connection beside the store's.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connect to the server of POSTGRES_URL");
    tokio::spawn(async move { connection.await.ok() });
    client
}

pub(crate) fn config(url: &str) -> Config {
    Config { url: url.to_owned(), max_connections: 8, ..Config::default() }
}

/// A database; dropped with it.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) url: String,
}

impl Database {
    /// With the schema of today.
    pub(crate) async fn new() -> Self {
        static TEMPLATE: OnceCell<String> = OnceCell::const_new();
        let template = TEMPLATE.get_or_init(template).await;
        Self::from(&format!("TEMPLATE {template}")).await
    }

    /// With nothing in it.
    pub(crate) async fn empty() -> Self {
        Self::from("TEMPLATE template0 ENCODING UTF8").await
    }

    async fn from(template: &str) -> Self {
        let name = format!("headwater_test_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let admin = connect(&server_url()).await;
        admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.expect("drop what another run left");
        admin.batch_execute(&format!("CREATE DATABASE {name} {template}")).await.expect("create a database");
        Self { url: url_of(&name, None), name }
    }

    pub(crate) async fn open(&self) -> Arc<Store> {
        self.open_with(config(&self.url)).await
    }

    pub(crate) async fn open_with(&self, config: Config) -> Arc<Store> {
        headwater_postgres::open(config, Arc::new(SystemClock)).await.expect("open the store")
    }

    pub(crate) async fn connect(&self) -> Client {
        connect(&self.url).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("start a runtime");
            runtime.block_on(async { connect(&server_url()).await.batch_execute(&sql).await })
        });
        // What stays behind is dropped by the next run that takes the same name.
        drop(dropping.join());
    }
}

/// The name of the migrated database, which stays on the server until the migrations are others.
async fn template() -> String {
    let name = format!("headwater_template_{:08x}", crc32fast::hash(MIGRATIONS.concat().as_bytes()));
    let admin = connect(&server_url()).await;
    // Held until this connection ends: one process makes it, the others wait.
    admin.execute("SELECT pg_advisory_lock(hashtext($1))", &[&name]).await.expect("wait for the template");
    let ready = format!("{name}_ready");
    let found = admin.query("SELECT FROM pg_database WHERE datname = $1", &[&ready]).await.expect("look for the template");
    if found.is_empty() {
        admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.expect("drop half a template");
        admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING UTF8")).await.expect("create the template");
        drop(headwater_postgres::open(config(&url_of(&name, None)), Arc::new(SystemClock)).await.expect("migrate the template"));
        // No database is copied while somebody is connected to it, and connections end a moment after they are closed.
        while admin.batch_execute(&format!("ALTER DATABASE {name} RENAME TO {ready}")).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    ready
}

/// A store that is opened again and again.
#[derive(Default)]
pub(crate) struct Machine {
    database: Option<Database>,
    open: Option<Arc<Store>>,
}

impl StoreHarness for Machine {
    fn open(&mut self) -> BoxFuture<'_, Arc<dyn AnyStore>> {
        Box::pin(async {
            self.open = None;
            if self.database.is_none() {
                self.database = Some(Database::new().await);
            }
            let database = self.database.as_ref().expect("made just now");
            Arc::clone(self.open.insert(database.open().await)) as Arc<dyn AnyStore>
        })
    }
}
