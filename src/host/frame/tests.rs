//! Requests as the remote shell reads them; answers in any noise and any pieces.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{host::Script, secret::Secret};

fn text(ops: &[Op]) -> String {
    let sums = ["SUM".to_owned()];
    String::from_utf8(request(ops, false, &sums).concat()).unwrap()
}

fn file(path: &str, mode: u32) -> Op {
    Op::Put(RemoteFile { path: path.into(), mode, data: Secret::new("data") })
}

#[test]
fn requests_carry_everything_by_length() {
    let script = Script { name: "a/b", text: "id\n" };
    let cases = [
        (Op::Run(Cmd::new(["echo", "", "é"])), "run 0 60.000 0 3\n4\necho0\n2\né"),
        (Op::Run(Cmd::new(["cat"]).stdin("in").timeout(Duration::ZERO)), "feed 0 0.001 0 2\n2\nin3\ncat"),
        (Op::Run(Cmd::new(["cat"]).stdin([0, 1])), "run 0 60.000 2 1\n3\ncat\0\u{1}"),
        (
            Op::Script(script, vec!["x".into()], Duration::from_millis(1500)),
            "script 0 1.500 0 3\n3\na-b3\nid\n1\nx",
        ),
        (Op::Read("/f".into()), "read 0 0 0 1\n2\n/f"),
        (file("/d/f", 0o644), "put 0 0 0 6\n4\n/d/f4\n06443\nSUM4\n075519\n/etc/kubernetes/pki4\ndata"),
        (file("/d/f", 0o100_600), "put 0 0 0 6\n4\n/d/f4\n06003\nSUM4\n070019\n/etc/kubernetes/pki4\ndata"),
    ];
    for (op, expected) in cases {
        assert_eq!(text(&[op]), format!("batch 0 0 0 0\n{expected}end 0 0 0 0\n"));
    }
}

/// What is packed is data: its bytes are no words.
#[test]
fn a_long_script_travels_packed() {
    const LONG: Script = Script { name: "a/long", text: include_str!("../ssh/remote.sh") };
    let ops = [Op::Script(LONG, vec!["x".into()], Duration::from_secs(1))];
    let head = format!("batch 0 0 0 0\npacked 0 1.000 {} 2\n6\na-long1\nx", LONG.packed().len());
    assert_eq!(
        request(&ops, false, &[]).concat(),
        [head.as_bytes(), LONG.packed(), b"end 0 0 0 0\n"].concat()
    );
    assert_eq!(size(&ops), head.len() + LONG.packed().len() + 12);
    assert!(LONG.packed().len() * 2 < LONG.code().len());
}

#[test]
fn what_cannot_be_asked_for_is_refused_in_its_place() {
    for op in [Op::Run(Cmd::new(["a\0"])), Op::Read("\0".into()), file("f", 0o600), file("/d/", 0o600)] {
        let text = text(&[Op::Read("/first".into()), op]);
        assert!(text.contains("\nrefuse 1 0 0 2\n") || text.contains("firstrefuse 1 0 0 2\n"), "{text}");
    }
}

#[test]
fn a_refused_file_takes_its_checksum_with_it() {
    let sums = ["first".to_owned(), "second".to_owned()];
    let ops = [file("relative", 0o600), file("/f", 0o600)];
    let text = String::from_utf8(request(&ops, false, &sums).concat()).unwrap();
    assert!(text.contains("second") && !text.contains("first"), "{text}");
}

const NONCE: &str = "rsadm-00ff";

fn framed(index: usize, output: &Output) -> Vec<u8> {
    let Output { status, stdout, stderr, .. } = output;
    let head = format!("\n{NONCE} {index} {status} {} {}\n", stdout.len(), stderr.len());
    [head.as_bytes(), stdout, stderr.as_bytes(), format!("{NONCE} .\n").as_bytes()].concat()
}

/// Everything that a stream holds when it comes in pieces of these sizes.
fn parse(stream: &[u8], sizes: &[usize]) -> Result<Vec<Frame>, Garbled> {
    let mut frames = Frames::new(NONCE);
    let mut found = Vec::new();
    let mut sizes = sizes.iter().copied().cycle();
    let mut rest = stream;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
        frames.feed(piece);
        rest = later;
        while let Some(frame) = frames.next_frame()? {
            found.push(frame);
        }
    }
    Ok(found)
}

fn outputs() -> impl Strategy<Value = Output> {
    // Bodies that hold frames of ours are the hard case: /proc/self/cmdline shows the nonce to a command.
    let tricky = Just(format!("\n{NONCE} 0 0 0 0\n{NONCE} .\n\n{NONCE} end\n").into_bytes());
    let bytes = prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), tricky];
    (0..256, bytes, "\\PC{0,40}").prop_map(|(status, stdout, stderr)| Output {
        status,
        stdout,
        stderr,
        ..Output::default()
    })
}

proptest! {
    #[test]
    fn answers_are_found_in_any_noise_and_any_pieces(
        outputs in proptest::collection::vec(outputs(), 0..6),
        noise in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 7),
        sizes in proptest::collection::vec(1usize..50, 1..8),
    ) {
        let mut stream = Vec::new();
        for (index, output) in outputs.iter().enumerate() {
            stream.extend(&noise[index]);
            stream.extend(framed(index, output));
        }
        stream.extend(&noise[6]);
        stream.extend(format!("\n{NONCE} end\n").as_bytes());
        let mut expected: Vec<Frame> = outputs
            .into_iter()
            .enumerate()
            .map(|(index, output)| Frame::Reply { index, output })
            .collect();
        expected.push(Frame::End);
        prop_assert_eq!(parse(&stream, &sizes), Ok(expected));
    }

    #[test]
    fn no_stream_makes_it_panic(stream in proptest::collection::vec(any::<u8>(), 0..300), size in 1usize..50) {
        let marked = [format!("{NONCE} ").as_bytes(), &stream].concat();
        // Whatever it says, it says it.
        let _ = parse(&marked, &[size]);
    }
}

#[test]
fn an_answer_written_into_is_refused() {
    let output = Output { stdout: b"abc".to_vec(), ..Output::default() };
    let whole = framed(0, &output);
    let middle = whole.len() - 14;
    let broken = [&whole[..middle], b"noise", &whole[middle..]].concat();
    assert_eq!(parse(&broken, &[1000]), Err(Garbled));
    for head in ["x 0 0 0", "0 0 0", "0 0 0 0 0", "0 0 18446744073709551615 1", "end of it"] {
        assert_eq!(parse(format!("\n{NONCE} {head}\n").as_bytes(), &[1000]), Err(Garbled), "{head}");
    }
}
