//! What a server offers: its Gluster volumes, as `gluster` lists them in XML.

use crate::backend::OpContext;
use crate::host::Command;
use crate::model::{Error, ErrorKind, HostAddress, Result, Source};
use quick_xml::Reader;
use quick_xml::events::Event;

/// What asks the server.
pub(super) const TOOL: &str = "gluster";

/// Where the name of a volume is in its answer, and where a refusal.
const NAME: &[&str] = &["cliOutput", "volInfo", "volumes", "volume", "name"];
const REFUSAL: &[&str] = &["cliOutput", "opErrstr"];

/// The volumes that a server offers, as sources of gluster pools.
pub(super) fn find(spec: &Source, ctx: &OpContext) -> Result<Vec<Source>> {
    let host = spec.server()?;
    let source = |name| Source {
        hosts: vec![host.clone()],
        dir: Some("/".to_owned()),
        name: Some(name),
        ..Source::default()
    };
    Ok(volumes(host, ctx)?.into_iter().map(source).collect())
}

/// Whether this host can ask a server.
pub(in crate::backend) fn can_find_sources(ctx: &OpContext) -> bool {
    ctx.host.find_tool(TOOL).is_some()
}

/// The names of a server's volumes.
pub(in crate::backend) fn volumes(host: &HostAddress, ctx: &OpContext) -> Result<Vec<String>> {
    let name = host.name.trim_matches(['[', ']']);
    let args = ["--xml", "--log-file=/dev/null", "volume", "info", "all"];
    let mut args: Vec<_> = args.into_iter().map(Into::into).collect();
    args.push(format!("--remote-host={name}").into());
    let command = Command { program: TOOL, args, ..Command::default() };
    let output = ctx.host.run(&command, &ctx.limits).map_err(|error| match error.kind() {
        ErrorKind::ToolFailed => {
            Error::new(ErrorKind::Inaccessible, format!("server {name}: {}", error.message()))
        }
        _ => error.context(format_args!("server {name}")),
    })?;
    parse(&String::from_utf8_lossy(&output.stdout))
        .map_err(|why| Error::new(ErrorKind::Inaccessible, format!("server {name}: {why}")))
}

/// The names in an answer, or why there are none.
fn parse(answer: &str) -> Result<Vec<String>, String> {
    let mut reader = Reader::from_str(answer);
    let (mut open, mut names, mut refusal): (Vec<String>, _, _) =
        (Vec::new(), Vec::new(), String::new());
    loop {
        match reader.read_event() {
            Ok(Event::Start(tag)) => {
                open.push(tag.name().as_ref().to_owned());
            }
            Ok(Event::End(_)) => drop(open.pop()),
            Ok(Event::Text(text)) => {
                let text = text.xml10_content();
                match text.trim() {
                    "" => {}
                    name if open == NAME => names.push(name.to_owned()),
                    why if open == REFUSAL => why.clone_into(&mut refusal),
                    _ => {}
                }
            }
            Ok(Event::Eof) if !open.is_empty() || answer.trim().is_empty() => {
                return Err(format!("{TOOL} gave no whole answer"));
            }
            Ok(Event::Eof) if refusal.is_empty() => return Ok(names),
            Ok(Event::Eof) => return Err(refusal),
            Ok(_) => {}
            Err(error) => return Err(format!("{TOOL}'s answer cannot be read: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_found_whatever_else_is_said_of_them() {
        let answer = "<?xml version='1.0'?><cliOutput><opRet>0</opRet><opErrstr/><volInfo><volumes>\
            <volume><name>aaa</name><bricks><brick>h:/b<name>h:/b</name></brick></bricks>\
            <options><option><name>nfs.disable</name></option></options></volume>\
            <volume><name>b b</name></volume><count>2</count></volumes></volInfo></cliOutput>";
        assert_eq!(parse(answer).unwrap(), ["aaa", "b b"]);
    }

    #[test]
    fn what_is_no_answer_says_why() {
        let refused = "<cliOutput><opRet>-1</opRet><opErrstr>no such thing</opErrstr></cliOutput>";
        assert_eq!(parse(refused).unwrap_err(), "no such thing");
        for answer in ["", "Connection failed", "<cliOutput><volInfo>", "<a></b>"] {
            assert!(parse(answer).is_err() || parse(answer).unwrap().is_empty(), "{answer}");
        }
        assert!(parse("<cliOutput><volInfo>").is_err());
    }

    #[test]
    fn libvirts_samples_are_read() {
        let Some(corpus) = std::env::var_os("POOLD_CORPUS") else {
            println!("RESULT gluster libvirts-samples skip POOLD_CORPUS is not set");
            return;
        };
        let read = |name: &str| {
            let path = std::path::Path::new(&corpus).join("gluster").join(name);
            parse(&std::fs::read_to_string(path).unwrap()).unwrap()
        };
        assert_eq!(read("gluster-parse-basic-src.xml"), ["vol0"]);
        assert_eq!(read("gluster-parse-multivol-src.xml"), ["aaa", "test", "test1"]);
    }
}
