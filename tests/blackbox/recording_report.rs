//! `wasmsr recording report`: the page as text, and as people use it, in a browser
//! with keys and pointer.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::fixture::{Browser, Outcome, Recording, Skip, Workdir, apply, key, test, wasmsr};

const EVIL: &str =
    "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>";

/// 300 accesses of three MSRs; every tenth is a fault.
fn recording() -> Recording {
    (0..300).fold(Recording::with(&["counter", "rapl"]), |recording, number| {
        let (msr, plugin) =
            [("0x434e5400", "counter"), ("0x611", "rapl"), ("0x1b", "rapl")][number % 3];
        let fault = number % 10 == 9;
        let outcome = if fault { "fault" } else { "value" };
        recording.access(json!({
            "msr": msr, "plugin": plugin, "outcome": outcome, "ns": 100 + number * 7,
            "value": format!("{:#x}", 0x1000 + number),
        }))
    })
}

/// A page, in a folder that must outlive its use.
fn page(recording: &Recording, arguments: &[&str]) -> (Workdir, String) {
    let workdir = Workdir::new();
    workdir.put("r.jsonl", recording.text());
    let mut all = vec!["recording", "report", "r.jsonl", "-o", "page.html"];
    all.extend(arguments);
    let run = workdir.wasmsr(&all).exited(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    let text = std::fs::read_to_string(workdir.path().join("page.html")).expect("a page is text");
    (workdir, text)
}

/// A page in a browser, wide enough for all of it.
fn browse(recording: &Recording) -> Result<(Workdir, Browser), Skip> {
    let (workdir, _) = page(recording, &[]);
    let browser = Browser::start(1280, 900)?;
    browser.open(&path(&workdir));
    Ok((workdir, browser))
}

fn path(workdir: &Workdir) -> PathBuf {
    workdir.path().canonicalize().expect("it is there").join("page.html")
}

#[apply(test)]
fn the_page_says_all_sums_without_a_script() -> Outcome {
    let (_workdir, page) = page(&recording(), &[]);
    let (page, script) = page.split_once("<script").expect("it has a script");
    for part in [
        "<dt>Accesses</dt><dd>300</dd>",
        "<dt>Faults</dt><dd>30</dd>",
        "<code>0x434e5400</code>",
        "data-v=\"100\">100</td>",
        "rapl",
        "<td>1.2.3</td>",
        &"ab".repeat(32),
        "fault: 30",
    ] {
        assert!(page.contains(part), "no `{part}` in the page");
    }
    assert!(page.contains("default-src 'none'") && !page.contains("unsafe-inline"), "its policy");
    assert!(!page.contains("://"), "an address in the page");
    assert!(!script.replace("http://www.w3.org/2000/svg", "").contains("://"), "an address");
    Ok(())
}

#[apply(test)]
fn large_recordings_are_sampled_and_said_to_be() -> Outcome {
    let (_workdir, page) = page(&recording(), &["--rows", "100"]);
    assert!(page.contains("one of 4 accesses"), "it is not said");
    assert!(page.contains("<dt>Accesses</dt><dd>300</dd>"), "the sums are of all");
    let (_, data) = page.split_once("id=\"data\">").expect("it has data");
    let (data, _) = data.split_once("</script>").expect("the data ends");
    let data: Value = serde_json::from_str(data).expect("it is JSON");
    // Every fault is there as well.
    let rows = data["rows"].as_array().expect("a list");
    assert_eq!(rows.len(), 75 + 30);
    assert_eq!(rows.iter().filter(|row| row[7] == "fault").count(), 30);
    assert!(rows.is_sorted_by_key(|row| row[0].as_u64()));
    Ok(())
}

#[apply(test)]
fn filters_are_said() -> Outcome {
    let (_workdir, page) = page(&recording(), &["--plugin", "counter", "--msr", "0x0-0xffffffff"]);
    assert!(
        page.contains("only the accesses with --msr 0x0-0xffffffff --plugin counter"),
        "it is not said"
    );
    assert!(page.contains("<dt>Accesses</dt><dd>100</dd>"), "they have no effect");
    Ok(())
}

#[apply(test)]
fn troubles_of_each_kind_are_kept() -> Outcome {
    // Failures after more faults than are listed.
    let faults =
        (0..1200).fold(Recording::with(&[]), |all, _| all.access(json!({ "outcome": "fault" })));
    let failed = json!({ "outcome": "fault", "failed": true, "plugin": "p", "value": "0x5ee" });
    let (_workdir, page) = page(&faults.access(failed), &["--rows", "10"]);
    assert!(page.contains("fault: 1,200, of which 300 are listed"), "it is not said");
    assert!(page.contains("failed: 1"), "it is not said");
    assert!(page.contains("<span class=\"mark failed\">"), "it is not in its table");
    assert!(page.contains("\"0x5ee\""), "it is not among the accesses");
    Ok(())
}

#[apply(test)]
fn a_recording_is_not_overwritten() -> Outcome {
    let workdir = Workdir::new();
    let text = recording().text();
    workdir.put("r.jsonl", &text);
    workdir.put("other.jsonl", &text);
    let path = |name: &str| workdir.path().join(name);
    std::fs::hard_link(path("r.jsonl"), path("hard")).expect("the disk has links");
    std::os::unix::fs::symlink("r.jsonl", path("soft")).expect("the disk has links");
    for output in ["./r.jsonl", "hard", "soft", "other.jsonl"] {
        let run = workdir.wasmsr(&["recording", "report", "r.jsonl", "-o", output]);
        run.refused(&[output, "another name"]);
    }
    let stdin = std::fs::File::open(path("r.jsonl")).expect("it is there");
    let run = wasmsr(&["recording", "report", "-", "-o", "hard"])
        .current_dir(workdir.path())
        .stdin(stdin)
        .output()
        .expect("the command runs");
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    for name in ["r.jsonl", "other.jsonl"] {
        assert_eq!(std::fs::read_to_string(path(name)).expect("it is there"), text);
    }
    let run = workdir.wasmsr(&["recording", "report", "r.jsonl", "-o", "none/page.html"]);
    run.refused(&["none/page.html", "No such file"]);
    Ok(())
}

#[apply(test)]
fn the_page_is_for_whom_the_recording_is_for() -> Outcome {
    use std::os::unix::fs::PermissionsExt as _;

    let workdir = Workdir::new();
    workdir.put("r.jsonl", recording().text());
    let path = |name: &str| workdir.path().join(name);
    let mode =
        |name: &str| path(name).metadata().expect("it is there").permissions().mode() & 0o777;
    // A page that is there does not keep its own.
    workdir.put("page.html", "old");
    for wanted in [0o600, 0o640] {
        let permissions = std::fs::Permissions::from_mode(wanted);
        std::fs::set_permissions(path("r.jsonl"), permissions).expect("it is ours");
        workdir.wasmsr(&["recording", "report", "r.jsonl", "-o", "page.html"]).exited(0);
        assert_eq!(mode("page.html"), wanted);
    }
    let stdin = std::fs::File::open(path("r.jsonl")).expect("it is there");
    let mut command = wasmsr(&["recording", "report", "-", "-o", "page.html"]);
    let status = command.current_dir(workdir.path()).stdin(stdin).status();
    assert!(status.expect("the command runs").success());
    assert_eq!(mode("page.html"), 0o600);
    // A device stays one.
    workdir.wasmsr(&["recording", "report", "r.jsonl", "-o", "/dev/null"]).exited(0);
    assert!(!std::fs::metadata("/dev/null").expect("it is there").is_file());
    Ok(())
}

/// A second boot that begins after an hour.
fn late_boot() -> Recording {
    const HOUR: u64 = 3_600_000_000_000;
    recording()
        .line(json!({ "kind": "boot", "format": 1, "version": "0.1.0", "t": HOUR, "unix_ms": 1,
            "boot": 2, "vcpus": 1, "plugins": [], "profile": "vm.toml", "text": "" }))
        .access(json!({ "t": HOUR + 1_000_000_000 }))
        .access(json!({ "t": HOUR + 2_000_000_000 }))
}

#[apply(test)]
fn a_part_has_its_own_time() -> Outcome {
    let (workdir, page) = page(&late_boot(), &["--boot", "2"]);
    assert!(page.contains("<dt>Over</dt><dd>2.00 s</dd>"), "not from its begin");
    assert!(page.contains("<dt>Rate</dt><dd>1/s</dd>"), "not from its begin");
    let run = workdir.wasmsr(&["recording", "stats", "r.jsonl", "--boot", "2", "--json"]).exited(0);
    let report: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    assert_eq!(report["duration_ns"], 2_000_000_000_u64);
    Ok(())
}

#[apply(test)]
fn absurd_numbers_are_drawn() -> Outcome {
    const ABSURD: [u64; 5] = [0, 1 << 53 | 1, 1 << 63, u64::MAX - 1, u64::MAX];
    let recording = ABSURD.iter().fold(Recording::with(&[]), |recording, number| {
        recording
            .access(json!({ "t": number, "ns": number, "value": format!("{number:#x}") }))
            .line(json!({ "kind": "dropped", "t": number, "lines": number }))
    });
    let (_workdir, browser) = browse(&recording)?;
    assert_eq!(browser.console(), Vec::<Value>::new());
    // Values of 64 bits are exact, and sorted as such.
    browser.tab_to("#accesses th:nth-child(7) button");
    browser.press(&[key::ENTER, key::ENTER]);
    let values = column(&browser, "#accesses", 6);
    assert_eq!(values, ["0xffffffffffffffff", "0xfffffffffffffffe", "0x8000000000000000"]);
    Ok(())
}

#[apply(test)]
fn pages_are_turned_without_losing_the_focus() -> Outcome {
    let (_workdir, browser) = browse(&recording())?;
    browser.tab_to("#page-last");
    browser.press(&[key::ENTER]);
    let of = "return document.querySelector('#page-of').textContent";
    assert_eq!(browser.text(of), "Page 3 of 3");
    assert_eq!(browser.text("return document.activeElement.id"), "page-last");
    browser.press(&[key::ENTER]);
    assert_eq!(browser.text(of), "Page 3 of 3");
    Ok(())
}

#[apply(test)]
fn the_page_asks_the_network_for_nothing() -> Outcome {
    let (workdir, browser) = browse(&recording())?;
    use_it(&browser);
    let page = format!("file://{}", path(&workdir).display());
    assert_eq!(browser.requests(), [page]);
    assert_eq!(browser.console(), Vec::<Value>::new());
    Ok(())
}

/// Everything that runs code.
fn use_it(browser: &Browser) {
    browser.tab_to("#timeline");
    browser.press_with(key::SHIFT, &[key::RIGHT, key::RIGHT]);
    browser.press(&[key::ENTER, key::RIGHT, key::ESCAPE, key::ESCAPE]);
    browser.tab_to("#latency-of");
    browser.press(&['r', 'r', key::TAB, key::RIGHT, key::HOME]);
    browser.tab_to("#search");
    browser.press(&['r', 'a', 'p']);
    browser.tab_to("#page-next");
    browser.press(&[key::ENTER]);
    assert_eq!(
        browser.text("return document.querySelector('#page-of').textContent"),
        "Page 2 of 2"
    );
}

#[apply(test)]
fn names_in_a_recording_are_text_in_the_page() -> Outcome {
    let evil = Recording::with(&[EVIL])
        .access(json!({ "plugin": EVIL, "name": EVIL, "outcome": "fault", "value": "0x1",
            "calls": [{ "plugin": EVIL, "call": "tsc_khz", "value": 1 }] }))
        .access(json!({ "plugin": "{{script}}", "name": "<!--<script>", "failed": true }));
    let (_workdir, browser) = browse(&evil)?;
    assert_eq!(browser.eval("return window.pwned ?? null"), Value::Null);
    assert_eq!(browser.eval("return document.images.length"), 0);
    assert_eq!(browser.eval("return document.scripts.length"), 2);
    assert_eq!(browser.console(), Vec::<Value>::new());
    let shown = browser.text("return document.querySelector('#accesses').textContent");
    assert!(shown.contains("</script><script>") && shown.contains("{{script}}"), "{shown}");

    // Were there a way in for a script, the page's policy would stop it.
    browser.eval("document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.pwned = 3' }))");
    assert_eq!(browser.eval("return window.pwned ?? null"), Value::Null);
    Ok(())
}

/// The first cells of a column.
fn column(browser: &Browser, table: &str, number: usize) -> Vec<String> {
    let script = format!(
        "return [...document.querySelectorAll('{table} tbody tr')].slice(0, 3).map(row => row.cells[{number}].textContent)"
    );
    let cells = browser.eval(&script);
    let cells = cells.as_array().expect("a list");
    cells.iter().map(|cell| cell.as_str().expect("text").to_owned()).collect()
}

#[apply(test)]
fn tables_are_sorted_by_keyboard() -> Outcome {
    let (_workdir, browser) = browse(&recording())?;
    browser.tab_to("#msrs th:nth-child(8) button");
    browser.press(&[key::ENTER]);
    let sorted = |table: &str, number: usize| {
        let script = format!(
            "return document.querySelector('{table} thead th:nth-child({number})').getAttribute('aria-sort')"
        );
        browser.text(&script)
    };
    assert_eq!(sorted("#msrs", 8), "descending");
    browser.press(&[key::ENTER]);
    assert_eq!(sorted("#msrs", 8), "ascending");
    // Numbers as numbers: 0x1b comes before 0x611 and 0x434e5400.
    browser.tab_to("#msrs th:nth-child(1) button");
    browser.press(&[key::ENTER]);
    assert_eq!(column(&browser, "#msrs", 0), ["0x1b", "0x611", "0x434e5400"]);
    let sorts = browser.eval("return document.querySelectorAll('#msrs [aria-sort]').length");
    assert_eq!(sorts, 1);

    browser.tab_to("#accesses th:nth-child(10) button");
    browser.press(&[' ']);
    assert_eq!(sorted("#accesses", 10), "descending");
    assert_eq!(column(&browser, "#accesses", 9), ["2.19 µs", "2.18 µs", "2.17 µs"]);
    let outline = "return getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(browser.text(outline), "solid", "the focus is seen");
    Ok(())
}

fn counted(browser: &Browser) -> String {
    browser.text("return document.querySelector('#accesses-count').textContent")
}

#[apply(test)]
fn a_search_narrows_the_accesses() -> Outcome {
    let (_workdir, browser) = browse(&recording())?;
    assert_eq!(counted(&browser), "300 of 300 accesses");
    browser.tab_to("#search");
    browser.press(&"RAPL 0x611".chars().collect::<Vec<_>>());
    assert_eq!(counted(&browser), "100 of 300 accesses");
    browser.tab_to("#outcome");
    browser.press(&['f']);
    assert_eq!(counted(&browser), "10 of 300 accesses");
    assert_eq!(column(&browser, "#accesses", 7), ["fault"; 3]);
    Ok(())
}

#[apply(test)]
fn a_time_is_selected_by_keyboard_and_by_pointer() -> Outcome {
    let (_workdir, browser) = browse(&recording())?;
    let value = || {
        browser.text("return document.querySelector('#timeline').getAttribute('aria-valuetext')")
    };
    browser.tab_to("#timeline");
    browser.press(&[key::HOME]);
    let first = value();
    assert!(first.starts_with("0.000000 s to ") && first.contains("access"), "{first}");
    browser.press(&[key::RIGHT]);
    assert_ne!(value(), first);
    browser.press_with(key::SHIFT, &[key::RIGHT, key::RIGHT]);
    let chosen = counted(&browser);
    assert!(chosen.contains(", from 0.0000"), "{chosen}");
    browser.press(&[key::ENTER]);
    let all = "return document.querySelector('#zoom-out').disabled";
    assert_eq!(browser.eval(all), false);
    browser.press(&[key::ESCAPE, key::ESCAPE]);
    assert_eq!(browser.eval(all), true);
    assert_eq!(counted(&browser), "300 of 300 accesses");

    browser.drag("#timeline", 0.25, 0.75);
    let chosen = counted(&browser);
    let number = chosen.split(' ').next().and_then(|number| number.parse::<u32>().ok());
    assert!(number.is_some_and(|number| (100..200).contains(&number)), "{chosen}");
    Ok(())
}

/// How much a text's colour differs from what is behind it, by WCAG 2.
const CONTRAST: &str = r"
    const lightness = (color) => {
        const parts = color.match(/[\d.]+/g).slice(0, 3).map((part) => part / 255)
            .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const behind = (element) => {
        for (let it = element; it; it = it.parentElement) {
            const color = getComputedStyle(it).backgroundColor;
            if (!/rgba\(.*, 0\)/.test(color)) return color;
        }
        return 'rgb(255, 255, 255)';
    };
    const ink = (element) => {
        const style = getComputedStyle(element);
        return element instanceof SVGElement ? style.fill : style.color;
    };
    const poor = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || element.matches('script, noscript *, noscript, option, optgroup, :disabled, .skip')) continue;
        const [one, other] = [lightness(ink(element)), lightness(behind(element))];
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (contrast < 4.5) poor.push(`${element.tagName}.${element.className} ${element.textContent.slice(0, 20)}: ${contrast}`);
    }
    return [...new Set(poor)];
";

#[apply(test)]
fn light_and_dark_are_readable() -> Outcome {
    let (_workdir, browser) = browse(&recording())?;
    let sheet = "return getComputedStyle(document.querySelector('section')).backgroundColor";
    for (scheme, expected) in [("light", "rgb(255, 255, 255)"), ("dark", "rgb(23, 27, 35)")] {
        browser.prefer(scheme);
        assert_eq!(browser.text(sheet), expected);
        assert_eq!(browser.eval(CONTRAST), json!([]), "{scheme}");
    }
    // The page's own switch, against what the system says.
    browser.tab_to("#theme");
    browser.press(&['l']);
    assert_eq!(browser.text(sheet), "rgb(255, 255, 255)");
    Ok(())
}

#[apply(test)]
fn everything_fits_a_telephone() -> Outcome {
    let (workdir, browser) = browse(&recording())?;
    browser.resize(360, 740);
    browser.open(&path(&workdir));
    assert_eq!(browser.eval("return document.documentElement.scrollWidth"), 360);
    Ok(())
}

#[apply(test)]
fn controls_have_names() -> Outcome {
    let (_workdir, browser) = browse(&recording())?;
    let nameless = browser.eval(
        "return [...document.querySelectorAll('button, input, select, [tabindex=\"0\"], section, nav')]
            .filter((it) => {
                const labels = it.labels ? [...it.labels] : [];
                const by = (it.getAttribute('aria-labelledby') || '').split(' ').map((id) => document.getElementById(id));
                const name = [it.getAttribute('aria-label'), ...[...labels, ...by].map((other) => other?.textContent)];
                if (it.tagName === 'BUTTON') name.push(it.textContent);
                return !name.some((text) => text && text.trim());
            }).map((it) => it.outerHTML.slice(0, 80))",
    );
    assert_eq!(nameless, json!([]));
    let ids = browser.eval(
        "const ids = [...document.querySelectorAll('[id]')].map((it) => it.id);
         return ids.filter((id, at) => ids.indexOf(id) !== at)",
    );
    assert_eq!(ids, json!([]), "ids that are there twice");
    let tables = browser.eval(
        "return [...document.querySelectorAll('table:not([aria-label], [aria-labelledby])')].length",
    );
    assert_eq!(tables, 0, "tables without a name");
    let heads = browser.eval("return document.querySelectorAll('thead th:not([scope])').length");
    assert_eq!(heads, 0);
    // The first Tab leads past the head of the page.
    browser.press(&[key::TAB, key::ENTER, key::TAB]);
    let inside =
        browser.eval("return document.querySelector('main').contains(document.activeElement)");
    assert_eq!(inside, true);
    Ok(())
}
