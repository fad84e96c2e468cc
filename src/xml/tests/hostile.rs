//! Documents that somebody wrote wrongly, or to do harm.

use crate::model::{ErrorKind, PoolType};
use crate::xml::{canonical, parse_pool, parse_secret, parse_source, parse_volume};

/// A pool's document with `inside` on its third line.
fn pool(inside: &str) -> String {
    format!(
        "<pool type='netfs'>\n  <name>n</name>\n{inside}\n  <source>\n    <host name='h'/>\n    <dir path='/x'/>\n  </source>\n  <target><path>/mnt</path></target>\n</pool>\n"
    )
}

#[test]
fn every_kind_of_bad_document_is_an_error_with_line_and_path() {
    let deep = "<a>".repeat(40) + &"</a>".repeat(40);
    let wide = "<a/>".repeat(20_001);
    let attributes: String = (0..65).map(|n| format!(" a{n}=''")).collect();
    let cases: &[(String, &str)] = &[
        (String::new(), "line 1, /: there is no element"),
        ("   \n ".into(), "line 2, /: there is no element"),
        ("not a document".into(), "line 1, /: text outside the root"),
        ("<volume/>".into(), "line 1, /volume: the root element must be <pool>"),
        ("<p:pool xmlns:p='urn:x' type='dir'/>".into(), "line 1, /pool: the root element"),
        ("<pool xmlns='urn:x' type='dir'/>".into(), "line 1, /pool: the root element"),
        ("<p:pool type='dir'/>".into(), "line 1, /: <p:pool>: unknown prefix"),
        ("<pool type='dir'>\n".into(), "line 2, /pool: <pool> of line 1 has no end"),
        ("<pool\n type='dir'></volume>".into(), "line 2, /pool: "),
        ("<pool type='dir'></pool>\n<pool type='dir'/>".into(), "line 2, /: <pool> is a second"),
        ("<pool type='dir'></pool>\ntext".into(), "text outside the root"),
        ("<pool type='dir'/>\n&#32;".into(), "line 2, /: text outside the root"),
        ("<![CDATA[ ]]><pool type='dir'/>".into(), "line 1, /: text outside the root"),
        ("<!DOCTYPE pool [<!ENTITY a 'b'>]>\n<pool/>".into(), "line 1, /: DOCTYPE"),
        ("\n<?xml version='1.0'?><pool/>".into(), "line 2, /: an XML declaration must come first"),
        (pool("<!-- \u{1} -->"), "line 3, /: a control character"),
        (pool("<x>&amp;&nbsp;</x>"), "line 3, /pool/x: unknown entity \"nbsp\""),
        (pool("<x>&#0;</x>"), "line 3, /pool/x: "),
        (pool("<x>& </x>"), "line 3, /pool/x: "),
        (pool("<x>]]></x>"), "line 3, /pool/x: \"]]>\" in text"),
        (pool("<x/ a='1'/>"), "line 3, /pool: \"x/\" is no name of an element"),
        (pool("<1/>"), "line 3, /pool: \"1\" is no name of an element"),
        (pool("<a:b:c xmlns:a='urn:x'/>"), "line 3, /pool: \"a:b:c\" is no name"),
        (pool("<x a;='1'/>"), "line 3, /pool: <x>: \"a;\" is no name of an attribute"),
        (pool("<x a=1/>"), "line 3, /pool: <x>: "),
        (pool("<x a='1' a='2'/>"), "line 3, /pool: <x>: attribute \"a\" twice"),
        (pool("<x a='<'/>"), "line 3, /pool: <x>: '<' in attribute"),
        (pool("<x a='&nbsp;'/>"), "line 3, /pool: <x>: "),
        (pool(&format!("<x{attributes}/>")), "line 3, /pool: <x>: more than 64 attributes"),
        (pool(&deep), "nested more than 32 deep"),
        (pool(&wide), "line 3, /pool: there are more than 20000 elements"),
        (pool(&" ".repeat(1 << 20)), "line 1, /: the document is longer"),
        (pool(&format!("<uuid>{}</uuid>", "0".repeat(100_000))), "line 3, /pool/uuid: \"000"),
        (format!("<{}>", "x".repeat(100_000)), "line 1, /xxx"),
        (pool("<x>\u{7f}</x\u{85}></y>"), "line 3, /pool"),
        (pool("hello"), "line 1, /pool: has text"),
        (pool("<![CDATA[hello]]>"), "line 1, /pool: has text"),
        (pool("<name>again</name>"), "line 3, /pool/name: is there twice"),
        (pool("<source/>"), "line 4, /pool/source: is there twice"),
        (pool("<path>/x</path>"), "line 3, /pool/path: is misplaced"),
        (pool("<host name='x'/>"), "line 3, /pool/host: is misplaced"),
        (pool("<uuid><name>n</name></uuid>"), "line 3, /pool/uuid/name: is misplaced"),
        (pool("<uuid>1234</uuid>"), "line 3, /pool/uuid: \"1234\" is no uuid"),
        (pool("<features><cow state='maybe'/></features>"), "line 3, /pool/features/cow/@state"),
        (pool("<features><cow state='yes'/></features>"), "line 3, /pool/features/cow: is out of"),
        (pool("<refresh><volume allocation='x'/></refresh>"), "line 3, /pool/refresh/volume/@all"),
        (
            pool("").replace("<name>n</name>", "<name>a&#10;b</name>"),
            "line 2, /pool/name: contains a control character",
        ),
        (
            pool("").replace("'/x'", "'/x&#10;y'"),
            "line 6, /pool/source/dir/@path: contains a control character",
        ),
        (pool("").replace("<name>n</name>", "<name>a/b</name>"), "line 2, /pool/name: pool name"),
        (pool("").replace("<name>n</name>", "<name></name>"), "line 2, /pool/name: a pool needs"),
        (pool("").replace("'h'/>", "'h' port='x'/>"), "line 5, /pool/source/host/@port: \"x\""),
        (pool("").replace("'h'/>", "'h' port='65536'/>"), "line 5, /pool/source/host/@port"),
        (pool("").replace("'h'/>", "'h'>x</host>"), "line 5, /pool/source/host: has text"),
        (pool("").replace("name='h'", ""), "line 5, /pool/source/host/@name: is missing"),
        (
            pool("").replace("<host name='h'/>", "<host name='h'/><host/>"),
            "line 5, /pool/source/host[2]/@name: is missing",
        ),
        (pool("").replace("<host name='h'/>", ""), "line 4, /pool/source/host: is missing"),
        (pool("").replace("<path>/mnt</path>", ""), "line 8, /pool/target/path: is missing"),
        (pool("").replace("'netfs'", "'tape'"), "line 1, /pool/@type: \"tape\" is no type"),
        (pool("").replace(" type='netfs'", ""), "line 1, /pool/@type: is missing"),
        (
            pool("").replace("</target>", "<permissions><mode>0999</mode></permissions></target>"),
            "line 8, /pool/target/permissions/mode: \"0999\"",
        ),
        (
            pool("").replace("</target>", "<permissions><owner>-2</owner></permissions></target>"),
            "line 8, /pool/target/permissions/owner: \"-2\" is no uid",
        ),
        (
            pool(
                "<m:mount_opts xmlns:m='http://libvirt.org/schemas/storagepool/fs/1.0'>\n<m:option/></m:mount_opts>",
            ),
            "line 4, /pool/mount_opts/option/@name: is missing",
        ),
        (
            pool(
                "<c:config_opts xmlns:c='http://libvirt.org/schemas/storagepool/rbd/1.0'>\n<c:option name='a' value='b'/></c:config_opts>",
            ),
            "line 3, /pool/config_opts: is out of place",
        ),
        ("<poolstate>\n</poolstate>".into(), "line 1, /poolstate/pool: is missing"),
    ];
    for (document, expected) in cases {
        let shown: String = document.chars().take(200).collect();
        let error = parse_pool(document).expect_err(&shown);
        assert_eq!(error.kind(), ErrorKind::InvalidXml, "{shown}: {error}");
        assert!(error.message().starts_with("line "), "{shown}: {error}");
        assert!(error.message().contains(expected), "{shown}:\n{error}\n{expected}");
        assert!(!error.message().chars().any(char::is_control), "{error}");
        assert!(error.message().chars().count() < 700, "{shown}");
    }
}

#[test]
fn every_kind_of_bad_volume_is_an_error_with_line_and_path() {
    let volume = |inside: &str| {
        format!(
            "<volume>\n<name>v</name>\n<capacity>1</capacity>\n<target>\n{inside}\n</target>\n</volume>"
        )
    };
    let cases: &[(String, &str)] = &[
        ("<volume><capacity>1</capacity></volume>".into(), "line 1, /volume/name: is missing"),
        ("<volume><name>v</name></volume>".into(), "line 1, /volume/capacity: is missing"),
        (volume("").replace(">v<", ">../v<"), "line 2, /volume/name: volume name"),
        (volume("").replace(">v<", ">-rf<"), "line 2, /volume/name: volume name"),
        (volume("").replace(">1<", ">-1<"), "line 3, /volume/capacity: size \"-1\""),
        (volume("").replace(">1<", ">9223372036854775808<"), "line 3, /volume/capacity: is larger"),
        (volume("").replace("<capacity>", "<capacity unit='X'>"), "line 3, /volume/capacity: size"),
        (volume("").replace("<volume>", "<volume type='x'>"), "line 1, /volume/@type: \"x\""),
        (volume("<format/>"), "line 5, /volume/target/format/@type: is missing"),
        (volume("<format type='zip'/>"), "line 5, /volume/target/format/@type: volumes of dir"),
        (volume("<format type='raw'/><format type='raw'/>"), "target/format: is there twice"),
        (volume("<features><x/></features>"), "line 5, /volume/target/features/x: is no known"),
        (volume("<compat>1.x</compat>"), "line 5, /volume/target/compat: \"1.x\""),
        (volume("<encryption format='rot13'/>"), "line 5, /volume/target/encryption/@format"),
        (
            volume("<encryption format='luks'><secret type='passphrase'/></encryption>"),
            "line 5, /volume/target/encryption/secret: needs a uuid or usage",
        ),
        (
            volume("<encryption format='luks'><secret type='x' usage='a'/></encryption>"),
            "line 5, /volume/target/encryption/secret/@type",
        ),
        (volume("<capacity>1</capacity>"), "line 5, /volume/target/capacity: is misplaced"),
        (
            volume("").replace("</volume>", "<backingStore/></volume>"),
            "line 7, /volume/backingStore/path: is missing",
        ),
    ];
    for (document, expected) in cases {
        let error = parse_volume(document, PoolType::Dir).expect_err(document);
        assert_eq!(error.kind(), ErrorKind::InvalidXml, "{document}: {error}");
        assert!(error.message().contains(expected), "{document}:\n{error}\n{expected}");
    }
}

#[test]
fn bad_sources_and_secrets_are_errors_too() {
    for (text, expected) in [
        ("<sources/>", "line 1, /sources: the root element must be <source>"),
        ("<source>\n<host name='-o'/></source>", "line 2, /source/host: \"-o\" begins with '-'"),
        ("<source>\n<device path='/dev/a'/></source>", "line 2, /source/device: is out of place"),
    ] {
        let error = parse_source(text, PoolType::NetFs).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::InvalidXml);
        assert!(error.message().contains(expected), "{error}\n{expected}");
    }
    for (text, expected) in [
        ("<secret><usage/></secret>", "line 1, /secret/usage/@type: is missing"),
        ("<secret>\n<usage type='tape'/></secret>", "line 2, /secret/usage/@type: \"tape\""),
        ("<secret><usage type='ceph'/></secret>", "line 1, /secret/usage/name: is missing"),
        ("<secret><usage type='vtpm'><name/></usage></secret>", "line 1, /secret/usage/name: "),
        ("<secret ephemeral='1'/>", "line 1, /secret/@ephemeral: \"1\""),
    ] {
        let error = parse_secret(text).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::InvalidXml);
        assert!(error.message().contains(expected), "{error}\n{expected}");
    }
    let error = canonical("<domain/>", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidXml);
}
