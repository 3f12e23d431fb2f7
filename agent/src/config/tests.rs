use super::*;

const GOOD: &str = "
scope: batman
name: postgresql0
restapi:
  listen: 127.0.0.1:8008
etcd3:
  hosts: 127.0.0.1:2379,127.0.0.1:22379
bootstrap:
  dcs:
    loop_wait: 2
    synchronous_mode: off
    postgresql:
      parameters: {max_connections: 100, wal_log_hints: on, work_mem: 1_000}
  initdb: [{encoding: UTF8}, data-checksums]
  pg_hba: [host all all 127.0.0.1/32 md5]
postgresql:
  listen: 127.0.0.1,localhost:5433
  data_dir: /data/pg0
  authentication:
    superuser: {username: postgres, password: zalando}
    replication: {username: replicator, password: rep-pass}
  parameters: {log_file_mode: 0640, max_connections: 200}
tags: {failover_priority: 3, clonefrom: false}
";

fn good() -> Settings {
    Settings::parse(GOOD).expect("a good file")
}

/// The mistakes named for the good file with one line replaced.
fn mistakes(line: &str, by: &str) -> String {
    assert!(GOOD.contains(line), "{line}");
    Settings::parse(&GOOD.replace(line, by)).expect_err("a bad file").to_string()
}

#[test]
fn a_patroni_file_is_read() {
    let settings = good();
    assert_eq!(settings.prefix, "/service/batman/");
    assert_eq!(settings.etcd, ["127.0.0.1:2379", "127.0.0.1:22379"]);
    assert_eq!(settings.rest.connect.to_string(), "127.0.0.1:8008");
    assert_eq!(settings.postgres.listen_addresses, "127.0.0.1,localhost");
    assert_eq!(settings.postgres.connect.to_string(), "127.0.0.1:5433");
    assert_eq!(settings.bootstrap.initdb, ["encoding=UTF8", "data-checksums"]);
    assert_eq!(settings.postgres.hba, ["host all all 127.0.0.1/32 md5"]);
    assert_eq!(settings.core.ttl, Span::secs(5));
    assert_eq!(settings.core.priority, 3);
    assert_eq!(settings.loop_wait, Duration::from_secs(2));
    assert_eq!(settings.ignored, ["bootstrap.dcs.synchronous_mode"]);
}

#[test]
fn parameters_stay_as_they_are_written_and_the_file_wins() {
    let parameters = good().postgres.parameters;
    let expected = [
        ("log_file_mode", "0640"),
        ("max_connections", "200"),
        ("wal_log_hints", "on"),
        ("work_mem", "1_000"),
    ];
    assert!(parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected));
}

#[test]
fn the_command_for_the_archive_has_several_places() {
    let (conf, parameters) = ("  recovery_conf:", "  parameters:");
    let cases = [
        (vec![(conf, "{restore_command: a %f, recovery_min_apply_delay: 1h}")], Some("a %f")),
        (vec![(conf, ""), (parameters, "{restore_command: b}")], Some("b")),
        (vec![(conf, "{restore_command: a}"), (parameters, "{restore_command: b}")], Some("a")),
        (vec![(conf, "{restore_command: ''}")], None),
        (vec![], None),
    ];
    for (lines, command) in cases {
        let lines: String = lines.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        let file = GOOD.replace("  parameters: {log_file_mode: 0640, max_connections: 200}\n", &lines);
        let settings = Settings::parse(&file).expect("a good file");
        assert_eq!(settings.postgres.restore_command.as_deref(), command, "{lines}");
        assert!(!settings.postgres.parameters.contains_key("restore_command"));
        let later = "postgresql.recovery_conf.recovery_min_apply_delay";
        assert_eq!(settings.ignored.iter().any(|key| key == later), lines.contains("delay"));
    }
    let members = "      recovery_conf: {restore_command: c}\n  initdb:";
    let settings = Settings::parse(&GOOD.replace("  initdb:", members)).expect("a good file");
    assert_eq!(settings.postgres.restore_command.as_deref(), Some("c"));
}

#[test]
fn a_mistake_is_named_with_its_key() {
    let cases = [
        (
            "  data_dir: /data/pg0",
            "  data_dri: /data/pg0",
            "postgresql.data_dri: unknown key; did you mean \"data_dir\"?",
        ),
        ("name: postgresql0", "nmae: postgresql0", "nmae: unknown key; did you mean \"name\"?"),
        ("name: postgresql0", "zzz: 1", "zzz: unknown key"),
        ("  data_dir: /data/pg0", "  data_dir: pg0", "postgresql.data_dir: must be an absolute path"),
        ("name: postgresql0", "", "name: missing"),
        (
            "name: postgresql0",
            "name: größe",
            "name: 1 to 63 of A-Z, a-z, 0-9, _, . and -, as PostgreSQL shows no other unchanged, not \"größe\"",
        ),
        (
            "scope: batman",
            "scope: bat/man",
            "scope: must be without a slash, as it is a part of the keys in etcd",
        ),
        (
            "  hosts: 127.0.0.1:2379,127.0.0.1:22379",
            "  hosts: https://127.0.0.1:2379",
            "etcd3.hosts: TLS towards etcd isn't supported yet, found \"https://127.0.0.1:2379\"",
        ),
        (
            "  listen: 127.0.0.1:8008",
            "  listen: 127.0.0.1:http",
            "restapi.listen: expected host:port, found \"127.0.0.1:http\"",
        ),
        (
            "  hosts: 127.0.0.1:2379,127.0.0.1:22379",
            "  hosts: []",
            "etcd3.hosts: missing; name at least one member of etcd as host:port",
        ),
        ("    loop_wait: 2", "    ttl: 2", "bootstrap.dcs.ttl: must be at least 3 s"),
        ("    loop_wait: 2", "    retry_timeout: 0", "bootstrap.dcs.retry_timeout: must be at least 1"),
        (
            "restapi:\n  listen: 127.0.0.1:8008",
            "restapi: 8008",
            "restapi: expected a section with keys of its own",
        ),
        (
            "    loop_wait: 2",
            "    ttl: 3601",
            "bootstrap.dcs.ttl: at most 3600 s: a dead primary costs as long",
        ),
        (
            "  listen: 127.0.0.1,localhost:5433",
            "  listen: 127.0.0.1:0",
            "postgresql.listen: expected host[,host...]:port, found \"127.0.0.1:0\"",
        ),
        ("  listen: 127.0.0.1:8008", "  listen: 8008", "restapi.listen: expected host:port, found \"8008\""),
        ("scope: batman", "scope: batman\nttl: 5", "ttl: unknown key; did you mean \"bootstrap.dcs.ttl\"?"),
        ("  initdb: [", "  dsc: {ttl: 30}\n  initdb: [", "bootstrap.dsc: unknown key; did you mean \"dcs\"?"),
        ("scope: batman", "scope: batman\nlog: {type: xml}", "log.type: plain or json, not \"xml\""),
    ];
    for (line, by, message) in cases {
        assert_eq!(mistakes(line, by), message);
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_named_with_its_key() {
    let ttl = |value: &str| mistakes("    loop_wait: 2", &format!("    ttl: {value}"));
    for (value, found) in [("soon", "\"soon\""), ("-5", "-5"), ("2.5", "2.5"), ("[5]", "a list")] {
        let text = format!("bootstrap.dcs.ttl: expected a whole number, zero or more, found {found}");
        assert_eq!(ttl(value), text);
    }
    let tags = |words: &str| mistakes("tags: {failover_priority: 3", &format!("tags: {{{words}"));
    assert_eq!(tags("nofailover: maybe"), "tags.nofailover: expected true or false, found \"maybe\"");
    assert_eq!(tags("failover_priority: x"), "tags.failover_priority: expected a whole number, found \"x\"");
    let parameters = "  parameters: {log_file_mode: 0640, max_connections: 200}";
    for (value, found) in [("[a]", "a list"), ("{a: {b: 1}}", "a name with more than a text")] {
        let text = mistakes(parameters, &format!("  parameters: {value}"));
        assert_eq!(text, format!("postgresql.parameters: expected names with values, found {found}"));
    }
    let text = mistakes("  listen: 127.0.0.1:8008", "  listen: {a: 1}");
    assert_eq!(text, "restapi.listen: expected a text, found names with values");
}

#[test]
fn a_password_is_in_no_message() {
    let secret = "  authentication:\n    superuser: {username: postgres, password: zalando}";
    let replaced = [
        "  authentication:\n    superuser: zalando",
        "  authentication:\n    superuser: [postgres, zalando]",
        "  authentication:\n    superuser: {username: postgres, password: [zalando]}",
        "  authentication:\n    superuser: {username: postgres, password: zalando}\n  listen: again",
        "  authentication:\n    superuser: {username: postgres, password: zalando, password: zalando}",
        "  authentication:\n    superuser: {username: postgres, password: zalando",
        "  authentication:\n    superuser: {username: postgres, password: \"zalando}",
        "  authentication:\n\tsuperuser: {username: postgres, password: zalando}",
        "  authentication:\n    superuser: {username: postgres, password: !!int zalando}",
    ];
    for by in replaced {
        let text = mistakes(secret, by);
        assert!(!text.contains("zalando"), "{by}: {text}");
    }
}

#[test]
fn an_option_of_initdb_may_have_a_number_or_nothing() {
    let given = "  initdb: [{wal-segsize: 64}, {data-checksums: }, {locale: C}, no-sync]";
    let file = GOOD.replace("  initdb: [{encoding: UTF8}, data-checksums]", given);
    let settings = Settings::parse(&file).expect("a good file");
    assert_eq!(settings.bootstrap.initdb, ["wal-segsize=64", "data-checksums", "locale=C", "no-sync"]);
}

#[test]
fn a_way_of_ones_own_to_make_a_cluster_has_a_section() {
    let own = "  method: mine\n  mine: {command: /bin/true}\n  initdb: [";
    let settings = Settings::parse(&GOOD.replace("  initdb: [", own)).expect("a good file");
    assert!(
        ["bootstrap.method", "bootstrap.mine"].iter().all(|key| settings.ignored.contains(&(*key).into()))
    );
}

#[test]
fn a_section_with_everything_commented_out_is_an_empty_one() {
    let emptied = [
        ("tags: {failover_priority: 3, clonefrom: false}", "tags:"),
        (
            "  parameters: {log_file_mode: 0640, max_connections: 200}",
            "  parameters:\n    # log_file_mode: 0640",
        ),
        ("      parameters: {max_connections: 100, wal_log_hints: on, work_mem: 1_000}", "      parameters:"),
        ("  pg_hba: [host all all 127.0.0.1/32 md5]", "  pg_hba:"),
        ("  initdb: [{encoding: UTF8}, data-checksums]", "  initdb:"),
        ("    superuser: {username: postgres, password: zalando}", "    superuser:"),
        ("scope: batman", "scope: batman\nlog:\netcd:"),
    ];
    let mut yaml = GOOD.to_owned();
    for (line, by) in emptied {
        assert!(yaml.contains(line), "{line}");
        yaml = yaml.replace(line, by);
    }
    let settings = Settings::parse(&yaml).expect("a good file");
    assert!(settings.postgres.parameters.is_empty() && settings.postgres.hba.is_empty());
    assert_eq!((settings.core.priority, settings.postgres.superuser.username.as_str()), (1, "postgres"));
    assert!(settings.tags.is_empty() && settings.bootstrap.initdb.is_empty());
}

#[test]
fn a_name_is_one_that_postgresql_shows_unchanged() {
    for name in ["a", "postgresql0", "pg-1.example.org", "A_b", &"a".repeat(63)] {
        assert!(is_member_name(name), "{name}");
    }
    for name in ["", "a b", "a,b", "a/b", "a\"b", "*", "é", "a\n", &"a".repeat(64)] {
        assert!(!is_member_name(name), "{name}");
    }
}

#[test]
fn what_listens_everywhere_is_found_at_an_address_of_its_own() {
    for all in ["0.0.0.0", "'*", "'::", "'[::]", "'"] {
        let end = if all.starts_with('\'') { "'" } else { "" };
        let text = mistakes("  listen: 127.0.0.1,localhost:5433", &format!("  listen: {all}:5433{end}"));
        assert!(text.starts_with("postgresql.connect_address: needed"), "{all}: {text}");
        if all == "'::" {
            // Only PostgreSQL takes it without brackets.
            continue;
        }
        let text = mistakes("  listen: 127.0.0.1:8008", &format!("  listen: {all}:8008{end}"));
        assert!(text.starts_with("restapi.connect_address: needed"), "{all}: {text}");
    }
    let text = mistakes("  listen: 127.0.0.1:8008", "  listen: 127.0.0.1:8008\n  connect_address: 0.0.0.0");
    assert!(text.starts_with("restapi.connect_address: needed"), "{text}");
    let listen = "  listen: '*:8008'\n  connect_address: '[2001:db8::1]'";
    let settings = Settings::parse(&GOOD.replace("  listen: 127.0.0.1:8008", listen)).expect("a good file");
    assert_eq!(settings.rest.connect.to_string(), "[2001:db8::1]:8008");
}

#[test]
fn postgresql_is_told_addresses_as_it_takes_them() {
    let cases = [
        ("[::1]:5433", "::1", "[::1]:5433"),
        ("'::1:5433'", "::1", "[::1]:5433"),
        ("127.0.0.1, [::1]:5433", "127.0.0.1,::1", "127.0.0.1:5433"),
        ("':5433'\n  connect_address: '[2001:db8::1]:5434'", "*", "[2001:db8::1]:5434"),
    ];
    for (listen, told, published) in cases {
        let quoted = if listen.starts_with('\'') { listen.to_owned() } else { format!("'{listen}'") };
        let line = format!("  listen: {quoted}");
        let text = GOOD.replace("  listen: 127.0.0.1,localhost:5433", &line);
        let postgres = Settings::parse(&text).expect("a good file").postgres;
        assert_eq!(
            (postgres.listen_addresses.as_str(), postgres.connect.to_string().as_str()),
            (told, published)
        );
    }
}

#[test]
fn all_mistakes_are_named_at_once() {
    let text = mistakes("scope: batman\nname: postgresql0", "");
    assert_eq!(text, "scope: missing\nname: missing");
}

#[test]
fn what_isn_t_yaml_is_refused_with_the_place() {
    assert!(mistakes("scope: batman", "scope: [batman").contains("line"));
    assert!(mistakes("scope: batman", "scope: batman\nscope: robin").contains("duplicate"));
}

#[test]
fn the_shortest_lease_leaves_time_for_an_orderly_stop() {
    for (ttl, lead) in [(3, 600), (4, 800), (5, 1000), (30, 1000)] {
        let settings =
            Settings::parse(&GOOD.replace("loop_wait: 2", &format!("ttl: {ttl}"))).expect("a good ttl");
        assert_eq!(settings.core.demote_lead, Span::millis(lead), "ttl {ttl}");
    }
}

#[test]
fn who_must_not_lead_has_no_priority() {
    let cases = [
        ("nofailover: true", 0),
        ("failover_priority: 0", 0),
        ("failover_priority: -1", 0),
        ("nofailover: true, failover_priority: 5", 0),
        ("nofailover: no", 1),
        ("clonefrom: true", 1),
    ];
    for (tags, priority) in cases {
        let yaml = GOOD.replace("failover_priority: 3, clonefrom: false", tags);
        assert_eq!(Settings::parse(&yaml).expect("good tags").core.priority, priority, "{tags}");
    }
}

#[test]
fn addresses_may_lack_the_port_or_have_brackets() {
    let cases = [
        ("a", "a:2379"),
        ("[::1]:1", "[::1]:1"),
        ("[::1]", "[::1]:2379"),
        ("::1", "[::1]:2379"),
        ("fe80::1%eth0", "[fe80::1%eth0]:2379"),
        ("*:5", "0.0.0.0:5"),
    ];
    for (text, address) in cases {
        assert_eq!(parse_address(text, 2379).expect("an address").to_string(), address);
    }
    assert_eq!(parse_address(":::5", 2379), None);
}

#[test]
fn copies_aside_are_kept_as_long_as_the_file_says() {
    assert_eq!(good().aside, Keep::default());
    let with = |words: &str| {
        Settings::parse(&GOOD.replace("tags: ", &format!("primacy: {{aside: {words}}}\ntags: ")))
    };
    let aside = |words: &str| with(words).expect("a good file").aside;
    let days = |days: u64| Duration::from_secs(days * 86_400);
    assert_eq!(aside("{keep: 1, max_age: 30d}"), Keep { count: 1, age: days(30), min_free: 0 });
    assert_eq!(aside("{max_age: 86400}").age, days(1));
    assert_eq!(aside("{max_age: 48 h}").age, days(2));
    assert_eq!(aside("").count, 3);
    let wrong = |words: &str| with(words).expect_err("a bad file").to_string();
    assert!(wrong("{keep: 0}").starts_with("primacy.aside.keep: at least 1"));
    for age in ["7 weeks", "d", "-1", "99999999999999999d"] {
        assert!(wrong(&format!("{{max_age: {age}}}")).starts_with("primacy.aside.max_age: "), "{age}");
    }
    assert!(wrong("{max_ages: 1}").contains("did you mean \"max_age\"?"));
}

#[test]
fn a_primary_may_go_without_a_proof_for_as_long_as_the_file_says() {
    assert_eq!(good().core.health_age, Span::secs(3));
    let with = |age: &str| {
        Settings::parse(&GOOD.replace("tags: ", &format!("primacy: {{health_age: {age}}}\ntags: ")))
    };
    for (text, age) in [("10", 10), ("2s", 2), ("1 min", 60), ("0", 0), ("1h", 3_600)] {
        assert_eq!(with(text).expect("a good file").core.health_age, Span::secs(age), "{text}");
    }
    for text in ["2h", "-1", "soon", "0.5"] {
        let wrong = with(text).expect_err("a bad file").to_string();
        assert!(wrong.starts_with("primacy.health_age: seconds"), "{wrong}");
    }
}

#[test]
fn rewinds_are_switched_off_by_the_members_file_or_for_all() {
    let with = |dcs: &str, own: &str| {
        let text = GOOD.replace("    postgresql:\n", &format!("    postgresql:\n      {dcs}\n"));
        Settings::parse(&text.replace("  listen: 127.0.0.1,", &format!("  {own}\n  listen: 127.0.0.1,")))
            .expect("good")
    };
    let rewinds = |dcs: &str, own: &str| with(dcs, own).core.rewind;
    assert!(rewinds("", ""));
    assert!(!rewinds("use_pg_rewind: false", ""));
    assert!(!rewinds("", "use_pg_rewind: no"));
    assert!(rewinds("use_pg_rewind: false", "use_pg_rewind: true"), "the member's own file wins");
}

#[test]
fn the_rewind_role_is_the_superuser_unless_it_is_named() {
    assert_eq!(good().postgres.rewind, good().postgres.superuser);
    let own = "    rewind: {username: rewinder, password: back}\n    superuser:";
    let settings = Settings::parse(&GOOD.replace("    superuser:", own)).expect("good");
    let expected = Login { username: "rewinder".to_owned(), password: Some("back".to_owned()) };
    assert_eq!(settings.postgres.rewind, expected);
    assert_eq!(settings.ignored, good().ignored);
}
