//! Templates and what Go's `text/template` and Docker's `--format` make of them.

use ignite_template::{MAX_DEPTH, MAX_TEMPLATE_BYTES, Problem, Record, Template, Value};
use proptest::prelude::*;
use std::sync::Arc;

/// A VM as the programs of today hand it over, small.
fn vm() -> Value {
    let meta = vec![("Name", Value::text("my-vm")), ("UID", Value::text("599615df99804ae8")), ("Labels", labels())];
    let ssh = Value::record("true".into(), vec![("Generate", Value::Bool(true)), ("PublicKey", Value::text(""))]);
    let spec = Value::record(
        "{\"cpus\":2}".into(),
        vec![
            ("CPUs", Value::Int(2)),
            ("Memory", Value::Printed { text: "512.0 MB".into(), json: "\"512MB\"".into() }),
            ("SSH", ssh),
            ("Sandbox", Value::Nil),
            ("Args", Value::list([])),
        ],
    );
    let network = Value::record("{}".into(), vec![("IPAddresses", Value::texts(["10.0.0.2", "fd00::2"]))]);
    let status = Value::record("{}".into(), vec![("Running", Value::Bool(true)), ("Network", network)]);
    Value::Record(Arc::new(Record {
        fields: vec![("ObjectMeta", Value::record("{}".into(), meta.clone())), ("Spec", spec), ("Status", status)],
        promoted: meta,
        json: "{\"kind\":\"VM\"}".into(),
    }))
}

fn labels() -> Value {
    let labels = [("tier", "web"), ("a.b/c", "d\"e")];
    Value::Map(Arc::new(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()))
}

fn render(text: &str) -> Result<String, String> {
    let template = Template::parse(text).map_err(|error| error.to_string())?;
    template.render(&vm()).map_err(|error| error.to_string())
}

#[test]
fn templates_print_what_go_prints() {
    for (template, expected) in [
        ("", ""),
        ("plain } }} text", "plain } }} text"),
        ("{{.ObjectMeta.Name}}", "my-vm"),
        ("{{ .Name }}\\t{{.UID}}", "my-vm\t599615df99804ae8"),
        ("{{.Spec.CPUs}} {{.Spec.Memory}} {{.Spec.SSH}} {{.Spec.Sandbox}}", "2 512.0 MB {true } <nil>"),
        ("{{.Spec}}", "{2 512.0 MB {true } <nil> []}"),
        ("{{.Status.Running}} {{.Status.Network.IPAddresses}}", "true [10.0.0.2 fd00::2]"),
        ("{{.Labels}}", "map[a.b/c:d\"e tier:web]"),
        ("{{.Labels.tier}} {{.Labels.nope}}", "web <no value>"),
        ("{{index .Labels \"a.b/c\"}}|{{index .Labels \"nope\"}}|", "d\"e||"),
        ("{{index .Status.Network.IPAddresses 1}}", "fd00::2"),
        (
            "{{json .}} {{json .Labels}} {{json .Spec.Memory}}",
            "{\"kind\":\"VM\"} {\"a.b/c\":\"d\\\"e\",\"tier\":\"web\"} \"512MB\"",
        ),
        (
            "{{.Labels | json}} {{json .Status.Network.IPAddresses}}",
            "{\"a.b/c\":\"d\\\"e\",\"tier\":\"web\"} [\"10.0.0.2\",\"fd00::2\"]",
        ),
        ("{{json .Spec.Sandbox}}{{json true}}{{json 7}}", "nulltrue7"),
        // Nil is followed, where Go would end.
        ("{{.Spec.Sandbox.OCI}}", "<nil>"),
        // Blocks.
        ("{{range .Status.Network.IPAddresses}}<{{.}}>{{end}}", "<10.0.0.2><fd00::2>"),
        ("{{range $i, $ip := .Status.Network.IPAddresses}}{{if $i}}, {{end}}{{$ip}}{{end}}", "10.0.0.2, fd00::2"),
        (
            "{{range $ip := .Status.Network.IPAddresses}}{{$ip}} of {{$.Name}};{{end}}",
            "10.0.0.2 of my-vm;fd00::2 of my-vm;",
        ),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}},{{end}}", "a.b/c=d\"e,tier=web,"),
        ("{{range .Spec.Args}}x{{else}}none{{end}}", "none"),
        ("{{range .Spec.Sandbox}}x{{else}}none{{end}}", "none"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{range $i, $v := 5}}{{if eq $i 1}}{{continue}}{{end}}{{if eq $i 3}}{{break}}{{end}}{{$v}}{{end}}", "02"),
        ("{{range $i := 3}}{{range 9}}{{break}}{{end}}{{$i}}{{end}}", "012"),
        ("{{if .Status.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Spec.Sandbox}}a{{else if .Spec.Args}}b{{else if eq .Spec.CPUs 2}}c{{else}}d{{end}}", "c"),
        ("{{if not .Status.Running}}down{{end}}", ""),
        ("{{with .Status.Network}}{{index .IPAddresses 0}}{{end}}", "10.0.0.2"),
        ("{{with .Spec.Sandbox}}{{.}}{{else}}{{.Name}}{{end}}", "my-vm"),
        ("{{with .Spec.Sandbox}}a{{else with .Name}}{{.}}{{end}}", "my-vm"),
        ("{{with $n := .Name}}{{$n}}{{.}}{{end}}", "my-vmmy-vm"),
        // Variables.
        ("{{$x := 1}}{{$x}}{{$x = 2}}{{$x}}", "12"),
        ("{{$last := \"\"}}{{range .Status.Network.IPAddresses}}{{$last = .}}{{end}}{{$last}}", "fd00::2"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        // Trim markers and comments.
        ("a  {{- \"b\" -}}  c", "abc"),
        ("a {{/* no }} word */}} b{{- /* x */ -}} c", "a  bc"),
        ("x\\n{{- .Name}}", "xmy-vm"),
        // Literals.
        ("{{\"a\\tb\\\"\\u00e4\"}}{{`raw\\n`}}{{-3}}{{0x1F}}{{true}}", "a\tb\"äraw\\n-331true"),
        ("{{- 3}} {{ -3 }}", "3 -3"),
        ("{{\"}}\"}}", "}}"),
        // Pipelines and parentheses.
        ("{{.Name | upper | printf \"%s-%s\" \"x\"}}", "x-MY-VM"),
        ("{{(index .Status.Network.IPAddresses 0) | len}}", "8"),
        (
            "{{len (print .Name \"!\")}} {{(.Status).Running}} {{(.Status.Network).IPAddresses}}",
            "6 true [10.0.0.2 fd00::2]",
        ),
        ("{{join .Status.Network.IPAddresses \", \"}}", "10.0.0.2, fd00::2"),
        ("{{join (split \"a,b\" \",\") \"+\"}} {{split \"ab\" \"\"}}", "a+b [a b]"),
        ("{{upper \"a\"}}{{lower \"B\"}}{{title \"hello wORLD\"}}{{truncate \"héllo\" 2}}", "AbHello WORLDhé"),
        ("{{len .Labels}} {{len .Status.Network.IPAddresses}} {{len \"ä\"}}", "2 2 2"),
        ("{{print 1 2}}|{{print 1 \"a\" 2 nil}}", "1 2|1a2 <nil>"),
        ("{{print \"a\" \"b\" 3}} {{print true false}}", "ab3 true false"),
        ("{{println \"a\" 1}}", "a 1\n"),
        // Comparison and logic.
        (
            "{{eq 1 2 1}} {{eq .Name \"my-vm\"}} {{ne 1 1}} {{lt 1 2}} {{le 2 2}} {{gt \"b\" \"a\"}} {{ge 1 2}}",
            "true true false true true true false",
        ),
        ("{{eq .Spec.Sandbox nil}} {{eq .Spec.Memory \"512.0 MB\"}}", "true true"),
        ("{{and 1 0 .Nope}} {{or 0 \"\" \"x\"}} {{or 1 .Nope}} {{not 0}} {{true | and 5}}", "0 x 1 true true"),
        ("{{if and .Status.Running (gt .Spec.CPUs 1)}}big{{end}}", "big"),
        // printf.
        (
            "{{printf \"%s %d %v %q %t %x %%\" .Name 7 .Labels.tier \"a\\\"b\" true 255}}",
            "my-vm 7 web \"a\\\"b\" true ff %",
        ),
        ("{{printf \"%-8s|%8s|%04d|%+d|%.2s|%x\" .Name .Name -7 7 .Name \"az\"}}", "my-vm   |   my-vm|-007|+7|my|617a"),
        (
            "{{printf \"%v %s %q\" .Spec.SSH .Status.Network.IPAddresses .Status.Network.IPAddresses}}",
            "{true } [10.0.0.2 fd00::2] [\"10.0.0.2\" \"fd00::2\"]",
        ),
        ("{{printf \"%d %s\" \"a\"}}", "%!d(string=a) %!s(MISSING)"),
        (
            "{{printf \"%z\" 1 }}{{printf \"x\" 1 \"b\"}}{{printf \"%\"}}",
            "%!z(int=1)x%!(EXTRA int=1, string=b)%!(NOVERB)",
        ),
        ("{{printf \"%v %s\" .Spec.Sandbox nil}}", "<nil> %!s(<nil>)"),
    ] {
        assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn a_list_may_print_in_its_own_way() {
    let ports = Value::comma_list([Value::text("a"), Value::text("b")]);
    let render = |text: &str| Template::parse(text).and_then(|template| template.render(&ports));
    for (template, expected) in [
        ("{{.}}", "a, b"),
        ("{{range .}}<{{.}}>{{end}}{{len .}}{{index . 1}}", "<a><b>2b"),
        ("{{json .}} {{join . \"+\"}} {{printf \"%s\" .}}", "[\"a\",\"b\"] a+b a, b"),
    ] {
        assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (template, expected) in [
        ("{{.Nme}}", "line 1, column 3: can't find field \"Nme\""),
        ("a\n  {{.Spec.Cpu}}", "line 2, column 10: can't find field \"Cpu\""),
        ("{{.Name.First}}", "column 8: can't find field \"First\" in a value of type string"),
        ("ä{{.Name", "column 2: unclosed action"),
        ("{{", "unclosed action"),
        ("{{/* x", "unclosed comment"),
        ("{{/* x */ y}}", "unclosed comment"),
        ("{{\"a}}", "unterminated quoted string"),
        ("{{`a}}", "unterminated quoted string"),
        ("{{\"\\z\"}}", "unknown escape \\z"),
        ("{{\"\\ud800\"}}", "unknown escape \\u"),
        ("{{1.5}}", "bad number \"1.5\""),
        ("{{99999999999999999999}}", "bad number"),
        ("{{uper .Name}}", "column 3: function \"uper\" not defined"),
        ("{{}}", "unexpected nothing"),
        ("{{.Name |}}", "unexpected nothing"),
        ("{{(.Name}}", "unexpected an open parenthesis"),
        ("{{.Name)}}", "unexpected )"),
        ("{{.Name := 1}}", "unexpected :="),
        ("{{$a, $b := 1}}", "a second variable"),
        ("{{%}}", "unexpected '%'"),
        ("{{if .Name}}", "{{if}} has no {{end}}"),
        ("{{range .Labels}}{{else}}", "{{range}} has no {{end}}"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{if 1}}{{else}}{{else}}{{end}}", "unexpected {{else}}"),
        ("{{if 1}}{{else range .Labels}}{{end}}", "a word behind else"),
        ("{{break}}", "a range around it"),
        ("{{template \"x\"}}", "{{template}} is not supported here"),
        ("{{$x}}", "undefined variable \"$x\""),
        ("{{if 1}}{{$x := 1}}{{end}}{{$x}}", "undefined variable \"$x\""),
        ("{{$x = 1}}", "undefined variable \"$x\""),
        ("{{.Name 1}}", "not a function"),
        ("{{1 | .Name}}", "not a function"),
        ("{{len}}", "wrong number of arguments for len: 0"),
        ("{{eq 1}}", "wrong number of arguments for eq: 1"),
        ("{{and}}", "wrong number of arguments for and: 0"),
        ("{{len 1}}", "len: a text, list or map is expected, not a value of type int"),
        ("{{upper 1}}", "upper: a text is expected"),
        ("{{join 1 2}}", "join: a list is expected"),
        ("{{index .Labels 1}}", "index: a text as key of a map is expected"),
        ("{{index .Status.Network.IPAddresses 2}}", "index out of range: 2 in a list of 2"),
        ("{{index .Status.Network.IPAddresses -1}}", "index out of range: -1"),
        ("{{eq 1 \"1\"}}", "eq: incompatible types for comparison: int and string"),
        ("{{lt .Spec.Memory .Spec.Memory}}", "lt: incompatible types"),
        ("{{range .Name}}{{end}}", "range can't iterate over a value of type string"),
    ] {
        let error = render(template).expect_err(template);
        assert!(error.starts_with("template, line ") && error.contains(expected), "{template}: {error}");
    }
}

#[test]
fn hints_name_what_is_nearest() {
    for (template, hint) in [
        ("{{.ObjectMeta.name}}", Some("did you mean .Name?")),
        ("{{.Status.runing}}", Some("did you mean .Running?")),
        ("{{.Status.Xyz}}", Some("it has: Running, Network")),
        ("{{jsn .}}", Some("did you mean json?")),
        ("{{index .Spec.Args 0}}", Some("test it first: {{if .List}}{{index .List 0}}{{end}}")),
        ("{{len}}", None),
    ] {
        let error = Template::parse(template).and_then(|template| template.render(&vm())).expect_err(template);
        assert_eq!(error.hint().as_deref(), hint, "{template}");
    }
}

#[test]
fn work_and_output_are_bounded() {
    let endless = "{{range 9999999999}}{{end}}";
    let doubled = "{{$x := \"0123456789abcdef\"}}{{range 64}}{{$x = print $x $x}}{{end}}";
    let long = "{{range 999999}}0123456789012345678901234567890123456789{{end}}";
    for (template, expected) in [
        (endless.to_owned(), Problem::TooManySteps),
        (doubled.to_owned(), Problem::TooMuchOutput),
        (long.to_owned(), Problem::TooMuchOutput),
        ("{{if 1}}".repeat(MAX_DEPTH + 1), Problem::TooDeep),
        ("{{if 0}}{{else if 0}}".to_owned() + &"{{else if 0}}".repeat(MAX_DEPTH) + "{{end}}", Problem::TooDeep),
        (format!("{{{{{}", "(".repeat(MAX_DEPTH * 2)) + "}}", Problem::TooDeep),
        ("x".repeat(MAX_TEMPLATE_BYTES + 1), Problem::TooLong),
    ] {
        let found = Template::parse(&template).and_then(|template| template.render(&vm()));
        assert_eq!(found.map_err(|error| error.problem), Err(expected));
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        let _ = render(&text);
    }

    #[test]
    fn nothing_that_looks_like_a_template_panics(words in proptest::collection::vec(prop::sample::select(vec![
        "{{", "}}", "{{- ", " -}}", "if ", "range ", "with ", "else", "end", "break", ".", ".Spec", ".Name", "$", "$x", ":=", "=",
        ",", "|", "(", ")", "\"a\"", "\"", "`", "1", "-9", "printf ", "\"%9d%q%\"", "index ", "len ", "json ", "and ", "eq ", " ", "/*",
        "*/", "ä", "\\n", "nil", "true", "\n", "split ", ".Labels", "{{end}}", "{{range .Labels}}", "truncate ",
    ]), 0..24)) {
        let text = words.concat();
        let _ = render(&text);
        let _ = render(&format!("{{{{{text}}}}}"));
    }
}
