use super::*;

#[derive(Deserialize)]
struct Wrapper {
    test: HealthTest,
}

#[test]
fn tests_are_read_as_docker_and_compose_write_them() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for (text, expected) in [
        (r#""curl -f localhost""#, HealthTest::Shell("curl -f localhost".into())),
        (r#""none""#, HealthTest::None),
        (r#"["NONE"]"#, HealthTest::None),
        (r#"["CMD","a","b"]"#, HealthTest::Command(words(&["a", "b"]))),
        (r#"["CMD-SHELL","a || b"]"#, HealthTest::Shell("a || b".into())),
        (r#"["a","CMD"]"#, HealthTest::Command(words(&["a", "CMD"]))),
    ] {
        let read: Wrapper = serde_json::from_str(&format!("{{\"test\":{text}}}")).expect(text);
        assert_eq!(read.test, expected, "{text}");
        let written = serde_json::to_string(&read.test).unwrap();
        assert_eq!(serde_json::from_str::<HealthTest>(&written).unwrap(), expected, "{written}");
    }
    for bad in ["[]", r#"["CMD"]"#, r#"["NONE","x"]"#, r#"["CMD-SHELL"]"#, r#"["CMD-SHELL","a","b"]"#, "7", "{}"] {
        assert!(serde_json::from_str::<HealthTest>(bad).is_err(), "{bad}");
    }
}

#[test]
fn times_are_go_s() {
    for (text, ms, written) in [
        ("30s", 30_000, "30s"),
        ("1m30s", 90_000, "1m30s"),
        ("500ms", 500, "500ms"),
        ("1.5s", 1500, "1s500ms"),
        ("90s", 90_000, "1m30s"),
        ("2h", 7_200_000, "2h"),
        ("0", 0, "0s"),
        ("0s", 0, "0s"),
    ] {
        let time: Time = text.parse().expect(text);
        assert_eq!((time.0.as_millis(), time.to_string().as_str()), (ms, written), "{text}");
        assert_eq!(time.to_string().parse(), Ok(time), "{text}");
    }
    for bad in ["", "30", "-1s", "s", "PT1H", "1h ago", "1x", "+1s", "99999999999999999999h"] {
        assert!(bad.parse::<Time>().is_err(), "{bad}");
    }
}

#[test]
fn vm_and_image_are_put_together_as_docker_does() {
    let check = |text: &str| serde_json::from_str::<HealthCheck>(text).expect(text);
    let image = check(r#"{"test":["CMD","img"],"interval":"7s","retries":5}"#);
    let shell = |text: &str| Probe::Command(vec!["/bin/sh".into(), "-c".into(), text.into()]);
    // The VM's, with the image's above: probe, interval in seconds, retries.
    for (wanted, expected) in [
        ("{}", Some((Probe::Command(vec!["img".into()]), 7, 5))),
        (r#"{"test":"none"}"#, None),
        (r#"{"test":"own"}"#, Some((shell("own"), 7, 5))),
        (r#"{"tcp":80,"retries":1}"#, Some((Probe::Tcp(80), 7, 1))),
        (r#"{"interval":"2s"}"#, Some((Probe::Command(vec!["img".into()]), 2, 5))),
        (r#"{"interval":"0s","retries":0}"#, Some((Probe::Command(vec!["img".into()]), 7, 5))),
    ] {
        let plan = HealthPlan::of(Some(&check(wanted)), Some(&image));
        assert_eq!(plan.map(|p| (p.probe, p.interval.as_secs(), p.retries)), expected, "{wanted}");
    }
    assert_eq!(HealthPlan::of(None, None), None);
    assert_eq!(HealthPlan::of(Some(&check(r#"{"interval":"2s"}"#)), None), None);
    let plan = HealthPlan::of(Some(&check(r#"{"test":"x"}"#)), None).unwrap();
    let seconds = [plan.interval, plan.timeout, plan.start_period, plan.start_interval].map(|time| time.as_secs());
    assert_eq!((seconds, plan.retries), ([30, 30, 0, 5], 3));
}
