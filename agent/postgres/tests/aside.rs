//! Copies that were moved aside: none is lost by a crash, and none goes that should be kept. No PostgreSQL runs here.

use primacy_postgres::{Aside, Instant, Keep, Position, Postgres, Settings};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

struct Place {
    root: PathBuf,
    postgres: Postgres,
}

impl Place {
    fn new(test: &str) -> Place {
        let root = std::env::temp_dir().join(format!("primacy-aside-{}-{test}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let settings = Settings { data_dir: root.join("data"), ..Settings::default() };
        Place { root, postgres: Postgres::new(settings) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A data directory with something in it.
    fn make(&self, name: &str) {
        fs::create_dir_all(self.path(name).join("base/1")).unwrap();
        fs::write(self.path(name).join("base/1/2"), vec![1; 10_000]).unwrap();
    }

    /// A data directory with a tablespace, and with its WAL elsewhere.
    fn make_with_parts(&self) {
        self.make("data");
        fs::create_dir_all(self.path("data/pg_tblspc")).unwrap();
        for (link, part) in [("data/pg_tblspc/16400", "space/PG_15_1"), ("data/pg_wal", "wal")] {
            fs::create_dir_all(self.path(part)).unwrap();
            fs::write(self.path(part).join("file"), part).unwrap();
            symlink(self.path(part.split('/').next().unwrap()), self.path(link)).unwrap();
        }
    }

    /// One that was moved aside so long ago; by its number.
    async fn aside(&self, seconds_ago: u64) -> u64 {
        self.make("data");
        let path = self.postgres.set_aside(&Aside::default(), soon()).await.unwrap();
        let number = now() - seconds_ago;
        let aged = self.path(&format!("data.aside-{number}"));
        fs::rename(&path, &aged).unwrap();
        fs::rename(manifest_of(&path), manifest_of(&aged)).unwrap();
        // Without that only the wall clock tells.
        let mut manifest: Value = serde_json::from_slice(&fs::read(manifest_of(&aged)).unwrap()).unwrap();
        manifest.as_object_mut().unwrap().remove("boot").unwrap();
        fs::write(manifest_of(&aged), manifest.to_string()).unwrap();
        number
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.root).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    async fn prune(&self, keep: Keep) -> primacy_postgres::Pruned {
        self.postgres.prune_aside(keep, soon()).await.unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.root));
    }
}

fn manifest_of(path: &Path) -> PathBuf {
    format!("{}.json", path.display()).into()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn pair(number: u64) -> [String; 2] {
    [format!("data.aside-{number}"), format!("data.aside-{number}.json")]
}

#[tokio::test]
async fn a_manifest_lies_beside_each_copy_and_nothing_is_overwritten() {
    let place = Place::new("manifest");
    let end = Position { timeline: 3, lsn: 0x500_0060 };
    let aside = Aside {
        why: "it left the elected history".to_owned(),
        member: "a".to_owned(),
        system_id: Some("7432156789012345678".to_owned()),
        lineage: vec!["3 1f".to_owned()],
        end: Some(end),
        ..Aside::default()
    };
    // Two within the same second; a link that leads nowhere has such a name, too, and one is still being removed.
    symlink("nowhere", place.path(&format!("data.aside-{}", now()))).unwrap();
    let doomed = now() + 1;
    fs::write(place.path(&format!("data.removing-{doomed}.json")), "").unwrap();
    let mut paths = Vec::new();
    for _ in 0..2 {
        place.make("data");
        paths.push(place.postgres.set_aside(&aside, soon()).await.unwrap());
        assert!(!place.path("data").exists());
    }
    let copies = place.postgres.asides().unwrap();
    assert_eq!(copies.iter().map(|copy| &copy.path).collect::<Vec<_>>(), paths.iter().collect::<Vec<_>>());
    for copy in copies {
        assert_ne!(copy.seconds, doomed);
        assert_eq!(copy.manifest.aside, aside);
        assert_eq!(copy.manifest.from, place.path("data"));
        assert!(copy.manifest.bytes.unwrap() >= 10_000);
        assert_eq!(fs::read(copy.path.join("base/1/2")).unwrap(), vec![1; 10_000]);
    }
    let nothing = place.postgres.set_aside(&aside, soon()).await.unwrap_err().to_string();
    assert!(nothing.starts_with("there is no "), "{nothing}");
}

#[tokio::test]
async fn what_a_crash_between_two_steps_leaves_is_named_and_kept() {
    let place = Place::new("crash");
    // The manifest was written, and the copy is still in its place.
    place.make("data");
    fs::write(place.path("data.aside-5.json"), r#"{"from": "/data", "bytes": 1}"#).unwrap();
    // Somebody took the manifest away, or it is garbage.
    place.make("data.aside-6");
    place.make("data.aside-7");
    fs::write(place.path("data.aside-7.json"), "{").unwrap();
    place.make("data.aside-mine");
    place.make("data.removing-8");
    let before = place.names();
    let pruned = place.prune(Keep { count: 1, age: Duration::ZERO, min_free: 0 }).await;
    assert_eq!(place.names(), before);
    assert_eq!((pruned.removed, pruned.kept, pruned.short), (vec![], vec![], None));
    for name in
        ["data.aside-5.json", "data.aside-6 ", "data.aside-7 ", "data.aside-mine ", "data.removing-8 "]
    {
        let path = place.path(name);
        let path = path.to_str().unwrap();
        assert_eq!(pruned.odd.iter().filter(|odd| odd.contains(path)).count(), 1, "{name}: {:?}", pruned.odd);
    }
    // It is moved aside all the same, under another name.
    let aside = place.postgres.set_aside(&Aside::default(), soon()).await.unwrap();
    assert_eq!(place.postgres.asides().unwrap()[0].path, aside);
}

#[tokio::test]
async fn only_old_copies_beyond_the_number_go() {
    let place = Place::new("rules");
    let mut numbers = Vec::new();
    for age in [30 * DAY, 9 * DAY, 8 * DAY, 2 * DAY, 10] {
        numbers.push(place.aside(age).await);
    }
    let keep = |count, days| Keep { count, age: Duration::from_secs(days * DAY), min_free: 0 };
    assert_eq!(place.prune(keep(3, 40)).await.removed, Vec::<PathBuf>::new());
    assert_eq!(place.prune(keep(5, 0)).await.removed, Vec::<PathBuf>::new());
    let pruned = place.prune(keep(3, 8)).await;
    assert_eq!(pruned.removed, [0, 1].map(|at| place.path(&format!("data.aside-{}", numbers[at]))));
    assert_eq!(pruned.kept.iter().map(|copy| copy.seconds).collect::<Vec<_>>(), numbers[2..]);
    assert_eq!(place.names(), numbers[2..].iter().flat_map(|number| pair(*number)).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_room_the_number_is_kept_and_it_is_said_what_takes_the_room() {
    let place = Place::new("room");
    let mut numbers = Vec::new();
    for age in [3 * HOUR, 2 * HOUR, HOUR / 2, 10] {
        numbers.push(place.aside(age).await);
    }
    let space = place.postgres.space().unwrap();
    assert!(space.free > 0 && space.free <= space.total);
    // Neither the newest one goes, nor one of less than an hour.
    let pruned = place.prune(Keep { count: 0, min_free: u64::MAX, ..Keep::default() }).await;
    assert_eq!(pruned.kept.iter().map(|copy| copy.seconds).collect::<Vec<_>>(), numbers[2..]);
    let short = pruned.short.unwrap();
    for number in &numbers[2..] {
        assert!(short.contains(&format!("data.aside-{number} (")), "{short}");
    }
    assert!(short.contains("kB)") && short.contains("primacy.aside.keep"), "{short}");
    assert_eq!(place.postgres.short_of(0).unwrap(), None);
}

#[tokio::test]
async fn a_removal_goes_on_from_any_step() {
    let place = Place::new("steps");
    let manifest = |number: u64| fs::read(place.path(&format!("data.aside-{number}.json"))).unwrap();
    let mut numbers = Vec::new();
    for age in [13, 12, 11, 10] {
        numbers.push(place.aside(age).await);
    }
    // Of each of the first three the manifest was renamed; of two the copy, too; of one it is gone already.
    for (step, number) in numbers[..3].iter().enumerate() {
        let [copy, mark] = pair(*number).map(|name| place.path(&name));
        let doomed = place.path(&format!("data.removing-{number}"));
        assert!(!manifest(*number).is_empty());
        fs::rename(mark, manifest_of(&doomed)).unwrap();
        match step {
            0 => {}
            1 => fs::rename(copy, doomed).unwrap(),
            _ => fs::remove_dir_all(copy).unwrap(),
        }
    }
    // At a deadline that has passed nothing is lost but time.
    let late = place.postgres.prune_aside(Keep::default(), Instant::now()).await;
    assert!(late.unwrap_err().to_string().contains("not done in time"));
    let pruned = place.prune(Keep::default()).await;
    assert_eq!(pruned.removed.len(), 3);
    assert_eq!(place.names(), pair(numbers[3]));
}

#[tokio::test]
async fn what_a_copy_has_elsewhere_goes_aside_with_it_and_is_removed_with_it() {
    let place = Place::new("parts");
    place.make_with_parts();
    let path = place.postgres.set_aside(&Aside::default(), soon()).await.unwrap();
    let number = place.postgres.asides().unwrap()[0].seconds;
    let parts = [format!("space.aside-{number}"), format!("wal.aside-{number}")];
    assert_eq!(place.names(), [&pair(number)[..], &parts].concat());
    assert_eq!(fs::read_to_string(path.join("pg_tblspc/16400/PG_15_1/file")).unwrap(), "space/PG_15_1");
    assert_eq!(fs::read_to_string(path.join("pg_wal/file")).unwrap(), "wal");
    let manifest = place.postgres.asides().unwrap().remove(0).manifest;
    let told: Vec<_> = manifest.elsewhere.iter().map(|part| (part.from.clone(), part.to.clone())).collect();
    let expected =
        ["space", "wal"].map(|name| (place.path(name), place.path(&format!("{name}.aside-{number}"))));
    assert_eq!(told, expected);
    assert!(manifest.elsewhere.iter().all(|part| part.bytes.is_some_and(|bytes| bytes > 0)));
    // Put back by hand it is whole, and goes aside again.
    fs::rename(&path, place.path("data")).unwrap();
    fs::remove_file(manifest_of(&path)).unwrap();
    let path = place.postgres.set_aside(&Aside::default(), soon()).await.unwrap();
    assert_eq!(fs::read_to_string(path.join("pg_wal/file")).unwrap(), "wal");
    // What has its old place by now is another's.
    fs::create_dir_all(place.path("space/PG_15_1")).unwrap();
    let number = place.postgres.asides().unwrap()[0].seconds;
    fs::rename(manifest_of(&path), place.path(&format!("data.removing-{number}.json"))).unwrap();
    place.prune(Keep::default()).await;
    assert_eq!(place.names(), ["space"]);
}

#[tokio::test]
async fn a_tablespace_that_was_not_moved_before_a_crash_is_moved_afterwards() {
    let place = Place::new("halfway");
    place.make_with_parts();
    let path = place.postgres.set_aside(&Aside::default(), soon()).await.unwrap();
    let copy = place.postgres.asides().unwrap().remove(0);
    let expected = place.names();
    // One was not moved yet; of the other only the link leads to its old place.
    let [space, wal] = &copy.manifest.elsewhere[..] else { panic!("{copy:?}") };
    fs::rename(&space.to, &space.from).unwrap();
    for part in [space, wal] {
        fs::remove_file(path.join(&part.link)).unwrap();
        symlink(&part.from, path.join(&part.link)).unwrap();
    }
    place.prune(Keep::default()).await;
    assert_eq!(place.names(), expected);
    for part in [space, wal] {
        assert_eq!(fs::read_link(path.join(&part.link)).unwrap(), part.to);
    }
}

#[tokio::test]
async fn a_tablespace_that_can_not_be_moved_keeps_the_copy_in_its_place() {
    let place = Place::new("stuck");
    place.make_with_parts();
    fs::write(place.path("space/mine"), "").unwrap();
    let before = place.names();
    let refused =
        || async { place.postgres.set_aside(&Aside::default(), soon()).await.unwrap_err().to_string() };
    let why = refused().await;
    assert!(why.contains(place.path("space").to_str().unwrap()) && why.contains("mine in it"), "{why}");
    fs::remove_file(place.path("space/mine")).unwrap();
    symlink("/proc", place.path("data/pg_tblspc/16401")).unwrap();
    let why = refused().await;
    assert!(why.contains("/proc, which can't be moved aside: it is a mount point"), "{why}");
    assert_eq!(place.names(), before);
    // Where nothing is, nothing has to be moved.
    fs::remove_file(place.path("data/pg_tblspc/16401")).unwrap();
    fs::create_dir(place.path("empty")).unwrap();
    symlink(place.path("empty"), place.path("data/pg_tblspc/16401")).unwrap();
    symlink("/nowhere", place.path("data/pg_tblspc/16402")).unwrap();
    place.postgres.set_aside(&Aside::default(), soon()).await.unwrap();
    assert!(place.path("empty").exists());
}

#[tokio::test]
async fn the_newest_copy_is_the_last_that_was_moved_whatever_the_clock_said() {
    let place = Place::new("clock");
    // The clock was far ahead for a while.
    let ahead = now() + 400 * DAY;
    for (number, name) in [(ahead, "data.removing-"), (ahead - 7, "data.aside-")] {
        place.make(&format!("{name}{number}"));
        fs::write(place.path(&format!("{name}{number}.json")), r#"{"from": "/data", "bytes": 1}"#).unwrap();
    }
    place.make("data");
    let path = place.postgres.set_aside(&Aside::default(), soon()).await.unwrap();
    assert_eq!(path, place.path(&format!("data.aside-{}", ahead + 1)));
    assert_eq!(place.postgres.asides().unwrap().last().unwrap().path, path);
    // A number that nobody can count on from is nobody's.
    place.make(&format!("data.aside-{}", u64::MAX));
    place.make("data");
    let path = place.postgres.set_aside(&Aside::default(), soon()).await.unwrap();
    assert_eq!(path, place.path(&format!("data.aside-{}", ahead + 2)));
}

#[tokio::test]
async fn a_copy_of_this_hour_stays_though_the_clock_has_gone_on_for_years() {
    let place = Place::new("leap");
    let mut numbers = Vec::new();
    // Moved aside just now, while the clock showed these times.
    for age in [30 * DAY, 20 * DAY, 10 * DAY] {
        place.make("data");
        let path = place.postgres.set_aside(&Aside::default(), soon()).await.unwrap();
        let aged = place.path(&format!("data.aside-{}", now() - age));
        fs::rename(&path, &aged).unwrap();
        fs::rename(manifest_of(&path), manifest_of(&aged)).unwrap();
        numbers.push(now() - age);
    }
    let keep = Keep { count: 1, age: Duration::ZERO, min_free: u64::MAX };
    assert_eq!(place.prune(keep).await.removed, Vec::<PathBuf>::new());
    // Before this boot it was, but nobody knows how long.
    let manifest = manifest_of(&place.path(&format!("data.aside-{}", numbers[0])));
    let mut text: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    text["boot"]["id"] = "another".into();
    fs::write(&manifest, text.to_string()).unwrap();
    let is_up_for_an_hour = || clock_gettime(ClockId::Boottime).tv_sec >= 3_600;
    let before = is_up_for_an_hour();
    let removed = place.prune(keep).await.removed.len();
    // An hour after the boot at the earliest.
    assert!([before, is_up_for_an_hour()].map(usize::from).contains(&removed), "{removed}");
}
