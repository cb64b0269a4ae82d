//! Precedence, refusals, and that all problems come at once.

use super::*;
use std::io::Write;

const NOTHING: [(&str, &str); 0] = [];

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn loaded<const N: usize>(text: &str, environment: [(&str, &str); N], flags: Flags) -> Result<Settings, Problems> {
    load(Some(file(text).path()), &environment.into_iter().collect(), flags)
}

fn problems<const N: usize>(text: &str, environment: [(&str, &str); N]) -> Vec<String> {
    loaded(text, environment, Flags::default()).unwrap_err().0
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let settings = load(None, &NOTHING.into_iter().collect(), Flags::default()).unwrap();
    assert_eq!(settings.data_dir, Path::new("headwater-data"));
    assert_eq!(settings.roles, Role::ALL);
    assert_eq!(settings.http.listen, "127.0.0.1:8080");
    assert_eq!((settings.auth.issuer.as_str(), settings.auth.audience.as_str()), ("headwater", "headwater"));
    assert_eq!(headwater_web::duration::print(settings.auth.max_ttl), "366d");
    assert_eq!(settings.key_file(), Path::new("headwater-data/token-key.pem"));
    assert_eq!(settings.gateway.device_tags, ["device", "device_id", "entity_id", "dev_eui", "host"]);
    settings.checked(false).unwrap();
}

#[test]
#[cfg(not(feature = "otlp"))]
fn traces_are_refused_by_the_name_of_what_is_missing() {
    let problem = "otlp: this binary was built without traces; build it with `--features otlp`";
    assert_eq!(problems("[otlp]\nendpoint = \"http://c:4318\"", NOTHING), [problem]);
    assert_eq!(problems("", [("HEADWATER_OTLP__SAMPLING", "1")]).len(), 1);
}

#[test]
#[cfg(feature = "otlp")]
fn traces_have_a_section_of_their_own() {
    assert!(loaded("[otlp]\nendpoint = \"http://c:4318\"\nsampling = 0.5", NOTHING, Flags::default()).is_ok());
    assert!(loaded("", [("HEADWATER_OTLP__SAMPLING", "1")], Flags::default()).is_ok());
    assert!(problems("[otlp]\nendpoint = \"c\"", NOTHING)[0].starts_with("otlp.endpoint: "));
}

#[test]
fn the_file_of_the_contract_is_read() {
    let text = r#"
        data_dir = "d"
        roles = ["gateway", "ingest", "rollup", "api"]
        [log]
        url = "embedded:"
        [store]
        url = "sqlite:"
        [http]
        listen = "127.0.0.1:9000"
        [gateway]
        device_tags = ["device", "host"]
        [auth]
        issuer = "headwater"
        audience = "headwater"
        max_ttl = "366d"
        key_file = ""
        [retention]
        readings = "forever"
        [logging]
        filter = "info"
    "#;
    let settings = loaded(text, NOTHING, Flags::default()).unwrap();
    assert_eq!(settings.http.listen, "127.0.0.1:9000");
    assert_eq!(settings.gateway.device_tags, ["device", "host"]);
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let text = "data_dir = 'of-file'\n[auth]\nissuer = 'of-file'\naudience = 'of-file'";
    let environment = [("HEADWATER__DATA_DIR", "of-environment"), ("HEADWATER_AUTH__ISSUER", "of-environment")];
    let flags = Flags::default().with("data_dir", "--data-dir", Some("of-flag"));
    let settings = loaded(text, environment, flags).unwrap();
    assert_eq!(settings.data_dir, Path::new("of-flag"));
    assert_eq!(settings.auth.issuer, "of-environment");
    assert_eq!(settings.auth.audience, "of-file");
    assert_eq!(headwater_web::duration::print(settings.auth.max_ttl), "366d");
}

#[test]
fn the_environment_can_name_the_file() {
    let file = file("data_dir = 'elsewhere'");
    let environment = [("HEADWATER_CONFIG", file.path().to_str().unwrap())].into_iter().collect();
    assert_eq!(load(None, &environment, Flags::default()).unwrap().data_dir, Path::new("elsewhere"));
}

#[test]
fn text_of_the_environment_stays_as_it_is_and_numbers_are_read_where_wanted() {
    let settings = loaded("", [("HEADWATER_AUTH__ISSUER", "007"), ("HEADWATER_INGEST__BATCH_MS", "250")], Flags::default()).unwrap();
    assert_eq!(settings.auth.issuer, "007");
    assert_eq!(settings.ingest.batch_ms, 250);
    let settings = loaded("", [("HEADWATER_AUTH__ISSUER", "12345678901234567890")], Flags::default()).unwrap();
    assert_eq!(settings.auth.issuer, "12345678901234567890");
}

#[test]
fn lists_of_the_environment_are_separated_by_commas() {
    let environment = [
        ("HEADWATER__ROLES", "api, gateway,ingest,rollup"),
        ("HEADWATER_GATEWAY__DEVICE_TAGS", "dev_eui,host"),
        ("HEADWATER_INGEST__DEVICE_TAGS", "host"),
    ];
    let settings = loaded("", environment, Flags::default()).unwrap();
    assert_eq!(settings.roles, Role::ALL);
    assert_eq!(settings.gateway.device_tags, ["dev_eui", "host"]);
    assert_eq!(settings.ingest.device_tags, ["host"]);
}

#[test]
fn variables_without_a_double_underscore_are_not_configuration() {
    let environment = [("HEADWATER_PORT", "tcp://10.0.0.1:80"), ("HEADWATER_TOKEN", "x"), ("HEADWATERX__Y", "z"), ("OTHER__KEY", "1")];
    loaded("", environment, Flags::default()).unwrap();
}

#[test]
fn every_problem_is_reported_with_its_path_and_its_source() {
    let text = "nonsense = 1\nroles = ['dashboard']\n[auth]\nmax_ttl = '1 year'\nisuer = 'x'\n[strange]\na = 1\n[http]\nlisten = 'here'\nlimitt = 3";
    let environment = [
        ("HEADWATER_STORE__URLL", "x"),
        ("HEADWATER_LOG__URL", "kafka://u:secret@host/x"),
        ("HEADWATER_NO__SUCH", "1"),
        ("HEADWATER_A__B__C", "1"),
    ];
    let found = problems(text, environment);
    let expected = [
        "nonsense: there is no such key",
        "roles: ",
        "auth.max_ttl: `1 year` is not a duration",
        "auth.isuer: unknown field `isuer`",
        "strange: there is no such key",
        "http.listen: `here` is not an address",
        "http.limitt: unknown field `limitt`",
        "store.urll (HEADWATER_STORE__URLL): unknown field `urll`",
        "log.url: must not hold a user",
        "no.such (HEADWATER_NO__SUCH): there is no such key",
        "HEADWATER_A__B__C: names no key",
    ];
    for start in expected {
        assert_eq!(found.iter().filter(|problem| problem.starts_with(start)).count(), 1, "`{start}` once in {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    assert!(!found.iter().any(|problem| problem.contains("secret")));
}

#[test]
fn the_scheme_of_a_url_chooses_the_backend_and_its_keys_are_read() {
    let text = r#"
        [log]
        url = "kafka://a:9093,b/readings?partitions=12&replication=3"
        options = { "client.id" = "plant", "compression.codec" = "zstd" }
        group_instance_id = "ingest-1"
        [store]
        url = "postgresql://u@db.example/d?sslmode=disable"
        tls_ca = "/ca.pem"
        max_connections = 20
    "#;
    let settings = loaded(text, [("HEADWATER_STORE__PASSWORD_FILE", "/run/secrets/p")], Flags::default()).unwrap();
    let (Log::Kafka(log), Store::Postgres(store)) = (&settings.log, &settings.store) else { panic!("{settings:?}") };
    assert_eq!((log.options["client.id"].as_str(), log.group_instance_id.as_deref()), ("plant", Some("ingest-1")));
    assert_eq!((store.max_connections, store.password_file.as_deref()), (20, Some(Path::new("/run/secrets/p"))));
    let embedded = loaded("[log]\nurl = 'embedded:'\n[store]\nurl = ''", NOTHING, Flags::default()).unwrap();
    assert!(matches!((&embedded.log, &embedded.store), (Log::Embedded, Store::Sqlite)));
}

#[test]
fn the_keys_of_the_other_backend_are_problems() {
    for (text, problem) in [
        ("[log]\noptions = { acks = '1' }", "log.url: is `embedded:`, which has no other keys"),
        ("[log]\nurl = 'embedded:'\nqueue_bytes = 8388608", "log.url: is `embedded:`, which has no other keys"),
        ("[store]\nmax_connections = 8", "store.url: is `sqlite:`, which has no other keys"),
        ("[store]\nurl = 'postgres://u@localhost/d'\nqueue_bytes = 1", "store.queue_bytes: unknown field"),
        ("[log]\nurl = 'kafka://localhost/t'\ntls_ca = 'x'", "log.tls_ca: unknown field"),
    ] {
        let found = problems(text, NOTHING);
        assert!(found.len() == 1 && found[0].starts_with(problem), "{text}: {found:?}");
    }
}

#[test]
fn secrets_that_stand_in_a_url_are_never_shown() {
    let text = "[log]\nurl = 'kafka://u:hunter2@host/t'\n[store]\nurl = 'postgres://u:hunter2@localhost/d?sslmode=maybe'";
    let found = problems(text, NOTHING);
    assert_eq!(found.len(), 2, "{found:?}");
    let unknown = problems("[log]\nurl = 'nats://u:hunter2@host'\n[store]\nurl = 'sqlite://u:hunter2@host'", NOTHING);
    let good = loaded("[store]\nurl = 'postgres://u:hunter2@localhost/d'", NOTHING, Flags::default()).unwrap();
    for shown in [format!("{found:?} {unknown:?}"), format!("{good:?}"), good.store.to_string(), good.log.to_string()] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn the_variables_of_compose_yaml_are_keys() {
    let text = include_str!("../../../../compose.yaml");
    let pairs = text.lines().filter_map(|line| line.trim().split_once(": ")).filter(|(name, _)| name.starts_with("HEADWATER_"));
    let settings = load(None, &pairs.collect(), Flags::default()).unwrap();
    assert!(matches!((&settings.log, &settings.store), (Log::Kafka(_), Store::Postgres(_))));
}

#[test]
fn only_what_is_built_is_accepted() {
    assert!(problems("[store]\nurl = 'mysql://host'", NOTHING)[0].starts_with("store.url: is `sqlite:` or begins with `postgres://`"));
    assert!(problems("[log]\nurl = 'nats://host'", NOTHING)[0].starts_with("log.url: is `embedded:` or begins with `kafka://`"));
    assert!(problems("[store]\nurl = 'sqlite:other.db'", NOTHING)[0].starts_with("store.url: is `sqlite:` and nothing after it"));
    assert!(problems("[log]\nurl = 'embedded:other'", NOTHING)[0].starts_with("log.url: is `embedded:` and nothing after it"));
    assert!(problems("[retention]\nreadings = '30d'", NOTHING)[0].starts_with("retention.readings: "));
    assert!(problems("[logging]\nfilter = 'a=b=c'", NOTHING)[0].starts_with("logging.filter: "));
    assert!(problems("[ingest]\nbatch_ms = 0", NOTHING)[0].starts_with("ingest.batch_ms = 0 must"));
    assert!(problems("[rollup]\nseal_timeout = '0s'", NOTHING)[0].starts_with("rollup.seal_timeout: 0s must"));
    assert!(problems("[rollup]\ninterval_ms = 0", NOTHING)[0].starts_with("rollup.interval_ms = 0 must"));
    assert!(problems("store = 5", NOTHING)[0].starts_with("store: is a section"));
    assert!(problems("[Store]\nurl = 'sqlite:'", NOTHING)[0].starts_with("Store: there is no such key"));
    assert!(problems("roles = []", NOTHING)[0].starts_with("roles: at least one"));
}

#[test]
fn a_file_that_is_missing_or_broken_is_named() {
    let missing = load(Some(Path::new("/nonexistent/h.toml")), &NOTHING.into_iter().collect(), Flags::default()).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/h.toml"));
    assert_eq!(problems("data_dir = ", NOTHING).len(), 1);
}

#[test]
fn roles_that_would_have_to_share_an_embedded_log_are_refused_in_words() {
    let flags = |roles: &str| Flags::default().with("roles", "ROLE", Some(roles));
    let refused = loaded("", NOTHING, flags("gateway")).unwrap().checked(false).unwrap_err().to_string();
    let sentence = "`log.url = embedded:` lives in one process, but only `gateway` runs here; run all roles together or use a kafka:// log";
    assert!(refused.contains(sentence), "{refused}");
    let refused = loaded("", NOTHING, flags("api,ingest")).unwrap().checked(false).unwrap_err().to_string();
    assert!(refused.contains("but only `ingest` and `api` run here"), "{refused}");
    let refused = loaded("", NOTHING, flags("rollup")).unwrap().checked(false).unwrap_err().to_string();
    assert!(refused.contains("but only `rollup` runs here"), "{refused}");
    for whole in ["gateway,ingest,rollup,api", "gateway,ingest,api"] {
        loaded("", NOTHING, flags(whole)).unwrap().checked(false).unwrap();
    }
}

#[test]
fn only_what_is_embedded_ties_roles_together() {
    const KAFKA: &str = "[log]\nurl = 'kafka://localhost/t'\n";
    const POSTGRES: &str = "[store]\nurl = 'postgres://u@localhost/d'\n";
    let refused = |text: &str, roles: &str| {
        let flags = Flags::default().with("roles", "ROLE", Some(roles));
        loaded(text, NOTHING, flags).unwrap().checked(false).err().map(|refused| refused.to_string())
    };
    let both = format!("{KAFKA}{POSTGRES}");
    for roles in ["gateway", "ingest", "rollup", "api", "gateway,api", "ingest,rollup", "gateway,ingest,rollup,api"] {
        assert_eq!(refused(&both, roles), None, "{roles}");
    }
    // The store is one process's; a gateway does not use it.
    for roles in ["gateway", "ingest,api", "ingest,rollup,api", "gateway,ingest,rollup,api"] {
        assert_eq!(refused(KAFKA, roles), None, "{roles}");
    }
    for roles in ["ingest", "rollup", "api", "gateway,ingest", "rollup,api"] {
        let words = refused(KAFKA, roles).unwrap_or_else(|| panic!("{roles} works"));
        assert!(words.contains("`store.url = sqlite:` lives in one process") && words.contains("postgres:// store"), "{words}");
    }
    // The log is one process's; rollup does not use it.
    for roles in ["rollup", "gateway,ingest,api", "gateway,ingest,rollup,api"] {
        assert_eq!(refused(POSTGRES, roles), None, "{roles}");
    }
    for roles in ["gateway", "ingest", "api", "ingest,rollup,api"] {
        let words = refused(POSTGRES, roles).unwrap_or_else(|| panic!("{roles} works"));
        assert!(words.contains("`log.url = embedded:` lives in one process") && words.contains("kafka:// log"), "{words}");
    }
}

#[test]
fn a_listener_that_others_reach_needs_tls_or_a_word() {
    let open = |listen: &str, extra: &str| loaded(&format!("[http]\nlisten = '{listen}'\n{extra}"), NOTHING, Flags::default()).unwrap();
    for listen in ["0.0.0.0:8080", "[::]:8080", "192.168.1.5:80"] {
        let refused = open(listen, "").checked(false).unwrap_err().to_string();
        assert!(refused.contains("--insecure") && refused.contains("http.behind_proxy"), "{refused}");
        open(listen, "").checked(true).unwrap();
        open(listen, "behind_proxy = true").checked(false).unwrap();
        let refused = open(listen, "tls_cert = '/nonexistent/c.pem'\ntls_key = '/nonexistent/k.pem'").checked(false).unwrap_err().0;
        assert!(refused.len() == 1 && refused[0].contains("/nonexistent/c.pem"), "{refused:?}");
    }
    for listen in ["127.0.0.1:0", "[::1]:8080", "127.8.8.8:1"] {
        open(listen, "").checked(false).unwrap();
    }
}

#[test]
fn clients_and_providers_are_read_and_their_problems_have_paths() {
    let text = r#"
        [[auth.clients]]
        id = "grafana"
        secret_file = "/run/secrets/grafana"
        scope = "read:stats read:readings"
        devices = ["plant-a/*"]
        ttl = "15m"
        [[auth.providers]]
        issuer = "https://id.example.com/realms/plant"
        types = ["JWT", "at+jwt"]
        [[auth.providers]]
        issuer = "accounts.example"
        audience = "api://headwater"
        jwks_url = "https://accounts.example/keys"
        algorithms = ["RS256"]
        scope_claim = "scp"
        devices_claim = "headwater_devices"
        ca_cert = "/etc/ssl/plant.pem"
    "#;
    let auth = loaded(text, NOTHING, Flags::default()).unwrap().auth;
    let audiences: Vec<String> = auth.providers().map(|provider| provider.audience).collect();
    assert_eq!(audiences, ["headwater", "api://headwater"]);
    assert_eq!(auth.clients[0].ttl.as_secs(), 900);
    let wrong = r#"
        [auth]
        max_ttl = "1h"
        [[auth.clients]]
        id = "a"
        secret_hash = "sha256:12"
        scope = "read:everything"
        ttl = "2h"
        [[auth.clients]]
        id = "a"
        secret_file = "s"
        scope = "admin"
        [[auth.providers]]
        issuer = "http://id.example.com"
        algorithms = ["HS256"]
        [[auth.providers]]
        issuer = "headwater"
        jwks_url = "https://x/keys"
    "#;
    let found = problems(wrong, NOTHING);
    let expected = [
        "auth.clients[0].secret_hash: ",
        "auth.clients[0].scope: `read:everything`",
        "auth.clients[0].ttl: is longer than auth.max_ttl",
        "auth.clients[1].id: `a` is there twice",
        "auth.providers[0].issuer: `http://id.example.com` is not https://",
        "auth.providers[0].algorithms: `HS256`",
        "auth.providers[1].issuer: `headwater` is there twice, or is auth.issuer",
    ];
    for start in expected {
        assert_eq!(found.iter().filter(|problem| problem.starts_with(start)).count(), 1, "`{start}` once in {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    assert!(problems("[[auth.clients]]\nsecret = 'x'", NOTHING)[0].starts_with("auth.clients: unknown field `secret`"));
}

#[test]
fn what_is_kept_of_dead_letters_is_told_and_checked() {
    let text = "[dead_letters]\nquota_letters = 5\nquota_bytes = 2097152\nretention = '90d'";
    let letters = loaded(text, NOTHING, Flags::default()).unwrap().dead_letters.clone();
    assert_eq!((letters.quota_letters, letters.quota_bytes), (5, Some(2 << 20)));
    assert_eq!(letters.retention(), Some(std::time::Duration::from_secs(90 * 86_400)));
    let letters = loaded("", [("HEADWATER_DEAD_LETTERS__RETENTION", "forever")], Flags::default()).unwrap().dead_letters.clone();
    assert_eq!((letters.quota_letters, letters.quota_bytes, letters.retention()), (1_000_000, None, None));
    let found = problems("[dead_letters]\nquota_letters = 0\nquota_bytes = 7\nretention = 'soon'\nquota = 1", NOTHING);
    for key in ["quota_letters", "quota_bytes", "retention", "quota"] {
        assert!(found.iter().any(|problem| problem.starts_with(&format!("dead_letters.{key}"))), "{key} in {found:?}");
    }
}
