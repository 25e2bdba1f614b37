//! Checks that we still understand what kernel and HTTP say, and that tables come out right:
//! `cargo test --bench scale`.

use std::path::Path;

use crate::Outcome;
use crate::client::{cookie_of, head_of};
use crate::fleet::{Fleet, Site};
use crate::homing::{resident_of, ticks};
use crate::million;
use crate::page::replaced;
use crate::plot;
use crate::table::{Plot, Table, shown};

const STAT: &str =
    "42 (a (b) c) S 7 42 42 0 -1 4194560 100 0 0 0 150 250 30 40 20 0 1 0 12345 1000 200";

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nset-cookie: a=b; Path=/\r\nContent-Length: 4\r\n\r\nbody";

pub(crate) fn run() -> Outcome<()> {
    let (address, admin) = ("127.0.0.1:1".parse()?, "127.0.0.1:4".parse()?);
    let (state_dir, backends) = (Path::new("/s"), ["127.0.0.1:2".parse()?, "127.0.0.1:3".parse()?]);
    let site = Site { state_dir, listener: address, admin, backends: &backends, probed: true };
    let fleet = Fleet { apps: 3, backends: 2 };
    let file = homing::config::parse(Path::new("f.yaml"), fleet.yaml(&site, 7))?;
    let table = Table {
        name: "size",
        columns: vec!["apps", "seconds"],
        rows: vec![vec![10.0, 0.5], vec![100_000.0, 12.0]],
        plot: Plot { title: "t", x: 0, lines: &[1] },
    };
    let figures =
        |name, rows| Table { name, columns: table.columns.clone(), rows, plot: table.plot };
    let tables = [
        figures("apps", vec![vec![10.0, 5.0], vec![100_000.0, 20.0]]),
        figures("connections", vec![vec![20_000.0, 15.0, 0.0, 0.0, 0.0, 10.0]]),
        Table {
            columns: vec!["apps", "memory after reloads, MiB"],
            ..figures("size", vec![vec![100_000.0, 1024.0]])
        },
    ];
    let fleet_of_sixteen = million::fleet(&tables).map(|table| table.rows[2].clone());
    let page = "a\n<!-- size -->\nold\n<!-- end size -->\nb\n";
    let checks = [
        ("a process's time", ticks(STAT) == Some(470.0)),
        ("resident memory", resident_of("A: 1\nVmRSS:\t  2048 kB\n") == Some(2.0)),
        ("an answer", head_of(ANSWER) == Some((ANSWER.len() - 4, 4))),
        ("half an answer", head_of(&ANSWER[..30]).is_none()),
        ("a cookie", cookie_of(ANSWER).as_deref() == Some("a=b")),
        ("a fleet", file.apps.len() == 3 && file.apps.iter().all(|app| app.backends.len() == 2)),
        ("a fleet is in no doubt", file.doubts.is_empty()),
        ("one app changes", fleet.yaml(&site, 8).matches("incarnation: v8").count() == 2),
        ("figures", [0.0, 1.234, 12.0, 123_456.0].map(shown) == ["0", "1.23", "12", "123,456"]),
        ("a table", table.markdown().ends_with("| 10 | 0.50 |\n| 100,000 | 12 |\n")),
        ("a plot", plot::svg(&table).matches("polyline").count() == 1),
        // 16 cores at 60 % and 20 us a request; three quarters of the edges carry the peak.
        (
            "a fleet for a million",
            fleet_of_sixteen.is_some_and(|row| row[2..5] == [480_000.0, 3.0, 4.0]),
        ),
        ("no fleet without figures", million::fleet(&tables[..2]).is_none()),
        ("a page", replaced(page, "size", "new\n") == Some(page.replace("old", "new"))),
        ("another page", replaced(page, "probes", "new\n").is_none()),
    ];
    let failed: Vec<&str> =
        checks.iter().filter(|(_, holds)| !holds).map(|(what, _)| *what).collect();
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("misread: {}", failed.join(", ")).into()),
    }
}
