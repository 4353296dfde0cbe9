//! The header of the PROXY protocol, read in any pieces and written (S-PXY-02 to S-PXY-10, C-PXY-12).
use ehlo::wire::proxy::{Endpoints, ProxyError, ProxyHeader};
use proptest::prelude::*;

/// What comes of `input`, the same for every prefix that is long enough to tell.
fn parse(input: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyError> {
    let whole = ProxyHeader::parse(input);
    for end in 0..=input.len() {
        match (ProxyHeader::parse(&input[..end]), &whole) {
            (Ok(None), _) => {}
            (Err(_), Err(_)) => {}
            (Ok(Some((header, length))), Ok(Some((other, of_whole)))) => {
                assert_eq!((&header, length), (other, *of_whole));
                assert!(length <= end);
            }
            (early, _) => panic!("{early:?} from {end} octets, {whole:?} from all of {}", input.escape_ascii()),
        }
    }
    whole
}

fn good(input: &[u8]) -> ProxyHeader {
    let behind = [input, b"EHLO x\r\n"].concat();
    let (header, length) = parse(&behind).unwrap().unwrap();
    assert_eq!(length, input.len(), "{}", input.escape_ascii());
    header
}

fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, block].concat()
}

const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0, 25];

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

#[test]
fn s_pxy_02_version_1() {
    let header = good(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\n");
    assert_eq!(header.source(), "192.0.2.1:56324".parse().ok());
    assert_eq!(header.destination(), "198.51.100.1:25".parse().ok());
    let header = good(b"PROXY TCP6 2001:DB8::1 ::ffff:192.0.2.1 0 65535\r\n");
    assert_eq!(header.source(), "[2001:db8::1]:0".parse().ok());
    let longest =
        b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert!(longest.len() <= 107 && good(longest).source().is_some());
}

#[test]
fn s_pxy_03_and_04_version_1_is_exact() {
    // S-PXY-04: numbers and families
    for wrong in [
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r \r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.1 56324 25\r\n",
        "PROXY  TCP4 192.0.2.1 198.51.100.1 56324 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324 25 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324 25 x\r\n",
        "PROXY tcp4 192.0.2.1 198.51.100.1 56324 25\r\n",
        "PROXY TCP5 192.0.2.1 198.51.100.1 56324 25\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.1 56324 25\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY \r\n",
        "PROXY TCP4 0192.0.2.1 198.51.100.1 56324 25\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.1 56324 25\r\n",
        "PROXY TCP4 192.0.2 198.51.100.1 56324 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 65536 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 056 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 +56 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 -1 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 5 \r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 5 25\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.1 5 25\r\n",
        "PROXY TCP6 [2001:db8::1] 2001:db8::2 5 25\r\n",
        "PROXY TCP6 fe80::1%eth0 2001:db8::2 5 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 \u{e9} 25\r\n",
        "proxy TCP4 192.0.2.1 198.51.100.1 56324 25\r\n",
        "EHLO x\r\n",
        "\r\n\r\nEHLO x\r\n",
        "PROXY\r\n",
    ] {
        assert!(parse(wrong.as_bytes()).is_err(), "{wrong:?}");
    }
    let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 91], b"\r\n"].concat();
    assert_eq!((long.len(), good(&long).source()), (107, None));
    let longer = [&b"PROXY UNKNOWN "[..], &[b'x'; 92], b"\r\n"].concat();
    assert_eq!(parse(&longer), Err(ProxyError::TooLong));
    assert_eq!(parse(&longer[..106]), Ok(None));
    assert_eq!(parse(&longer[..107]), Err(ProxyError::TooLong));
}

#[test]
fn s_pxy_05_unknown() {
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN foo\r\n", "PROXY UNKNOWN ffff::1 \u{e9} \0\r\n"] {
        assert_eq!(good(line.as_bytes()), ProxyHeader { unknown: true, ..ProxyHeader::default() });
    }
}

#[test]
fn s_pxy_06_version_2() {
    assert_eq!(good(&v2(0x21, 0x11, &V4)).source(), "192.0.2.1:56324".parse().ok());
    for (command, error) in [
        (0x11, ProxyError::Version),
        (0x31, ProxyError::Version),
        (0x01, ProxyError::Version),
        (0x22, ProxyError::Command),
        (0x2f, ProxyError::Command),
    ] {
        assert_eq!(parse(&v2(command, 0x11, &V4)), Err(error), "{command:#x}");
    }
    for at in 0..12 {
        let mut header = v2(0x21, 0x11, &V4);
        header[at] ^= 0x20;
        assert_eq!(parse(&header), Err(ProxyError::NotProxy), "octet {at}");
    }
}

#[test]
fn s_pxy_07_the_length_is_honoured() {
    assert_eq!(good(&v2(0x20, 0x00, b"12345")).endpoints, None);
    assert_eq!(good(&v2(0x20, 0x77, &[0; 300])), ProxyHeader::default()); // LOCAL: the family is ignored
    assert_eq!(parse(&v2(0x21, 0x11, &V4[..11])), Err(ProxyError::TooShort));
    assert_eq!(parse(&v2(0x21, 0x21, &[0; 35])), Err(ProxyError::TooShort));
    assert_eq!(parse(&v2(0x21, 0x31, &[0; 215])), Err(ProxyError::TooShort));
    let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 15], &[2], &[0, 5, 0, 25]].concat();
    let header = good(&v2(0x21, 0x21, &v6));
    assert_eq!(header.source(), "[2001:db8::1]:5".parse().ok());
    assert_eq!(header.destination(), "[::2]:25".parse().ok());
    let mut unix = [0; 216];
    unix[..6].copy_from_slice(b"/run/a");
    unix[108..111].copy_from_slice(b"\0ab");
    let endpoints = Endpoints::Unix { source: b"/run/a".to_vec(), destination: b"\0ab".to_vec() };
    assert_eq!(good(&v2(0x21, 0x31, &unix)).endpoints, Some(endpoints));
    let mut long = v2(0x20, 0, &[]);
    long[14..].copy_from_slice(&4097u16.to_be_bytes());
    assert_eq!(parse(&long), Err(ProxyError::TooLong));
    long[14..].copy_from_slice(&4096u16.to_be_bytes());
    assert_eq!(parse(&long), Ok(None));
}

#[test]
fn s_pxy_08_families() {
    let unknown = ProxyHeader { unknown: true, ..ProxyHeader::default() };
    assert_eq!(good(&v2(0x21, 0x00, b"")), unknown);
    assert_eq!(good(&v2(0x21, 0x00, b"whatever")), unknown);
    let mut wire = Vec::new();
    unknown.write_v2(&mut wire).unwrap();
    assert_eq!(wire, v2(0x21, 0x00, b""));
    for family in 0..=255u8 {
        let header = parse(&v2(0x21, family, &[0; 216]));
        assert_eq!(header.is_ok(), matches!(family, 0x00 | 0x11 | 0x21 | 0x31), "{family:#x}");
    }
}

#[test]
fn s_pxy_09_tlvs() {
    let ssl = [&[5, 0, 0, 0, 0][..], &tlv(0x21, b"TLSv1.3"), &tlv(0x22, b"jane"), &tlv(0x23, b"AES")].concat();
    let block = [
        V4.to_vec(),
        tlv(0x01, b"smtp"),
        tlv(0x02, b"mx.example"),
        tlv(0x04, b"padding"),
        tlv(0x05, &[7; 128]),
        tlv(0x20, &ssl),
        tlv(0x30, b"blue"),
        tlv(0xe0, b""),
    ]
    .concat();
    let header = good(&v2(0x21, 0x11, &block));
    assert_eq!((header.alpn(), header.authority()), (Some(&b"smtp"[..]), Some("mx.example")));
    assert_eq!((header.unique_id(), header.netns()), (Some(&[7; 128][..]), Some("blue")));
    let tls = header.ssl().unwrap();
    assert!(tls.is_tls() && tls.has_certificate() && tls.verified);
    assert_eq!((tls.version(), tls.common_name(), tls.cipher()), (Some("TLSv1.3"), Some("jane"), Some("AES")));
    assert_eq!(header.tlvs.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [1, 2, 5, 0x20, 0x30, 0xe0]);
    assert!(!good(&v2(0x21, 0x11, &[V4.to_vec(), tlv(0x20, &[1, 0, 0, 0, 1])].concat())).ssl().unwrap().verified);
    for (wrong, error) in [
        (vec![1], ProxyError::Tlv),
        (vec![1, 0], ProxyError::Tlv),
        (vec![1, 0, 1], ProxyError::Tlv),
        (vec![0xe0, 0xff, 0xff, 0], ProxyError::Tlv),
        (tlv(0x05, &[0; 129]), ProxyError::Tlv),
        (tlv(0x20, &[1, 0, 0, 0]), ProxyError::Tlv),
        (tlv(0x20, &[1, 0, 0, 0, 0, 0x21, 0, 9, b'x']), ProxyError::Tlv),
        (tlv(0x03, &[0; 3]), ProxyError::Checksum),
        (tlv(0x03, &[0; 4]), ProxyError::Checksum),
    ] {
        assert_eq!(parse(&v2(0x21, 0x11, &[V4.to_vec(), wrong].concat())), Err(error));
    }
}

#[test]
fn s_pxy_09_the_checksum_is_checked() {
    let header = ProxyHeader {
        endpoints: good(&v2(0x21, 0x11, &V4)).endpoints,
        tlvs: vec![(1, b"smtp".to_vec()), (3, vec![0; 4]), (5, b"id".to_vec())],
        ..ProxyHeader::default()
    };
    let mut wire = Vec::new();
    header.write_v2(&mut wire).unwrap();
    let read = good(&wire);
    assert_eq!((read.endpoints, &read.tlvs[0], &read.tlvs[2]), (header.endpoints, &header.tlvs[0], &header.tlvs[2]));
    for at in 16..wire.len() {
        let mut bad = wire.clone();
        bad[at] ^= 1;
        assert!(parse(&bad).is_err() || good(&bad).tlvs.iter().all(|(kind, _)| *kind != 3), "octet {at}");
    }
    let twice = [wire.clone(), tlv(3, &[0; 4])].concat();
    let mut twice = twice;
    let length = u16::try_from(twice.len() - 16).unwrap().to_be_bytes();
    twice[14..16].copy_from_slice(&length);
    assert_eq!(parse(&twice), Err(ProxyError::Checksum));
}

#[test]
fn c_pxy_12_what_a_client_writes() {
    let header = good(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\n");
    let mut out = Vec::new();
    header.write_v1(&mut out);
    assert_eq!(out, b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\n");
    out.clear();
    header.write_v2(&mut out).unwrap();
    assert_eq!(out, v2(0x21, 0x11, &V4));
    out.clear();
    ProxyHeader::default().write_v1(&mut out);
    ProxyHeader::default().write_v2(&mut out).unwrap();
    assert_eq!(out, [&b"PROXY UNKNOWN\r\n"[..], &v2(0x20, 0, b"")].concat());
    let unix = |length| Endpoints::Unix { source: vec![b'a'; length], destination: Vec::new() };
    let mixed = Endpoints::Tcp { source: "[::1]:1".parse().unwrap(), destination: "192.0.2.1:2".parse().unwrap() };
    out.clear();
    for (endpoints, tlvs, error) in [
        (unix(109), vec![], ProxyError::Address),
        (mixed.clone(), vec![], ProxyError::Family),
        (unix(1), vec![(0xe0, vec![0; 4096])], ProxyError::TooLong),
        (unix(1), vec![(0xe0, vec![0; 70000])], ProxyError::TooLong),
    ] {
        let header = ProxyHeader { endpoints: Some(endpoints), tlvs, ..ProxyHeader::default() };
        assert_eq!(header.write_v2(&mut out), Err(error));
        assert!(out.is_empty());
    }
    ProxyHeader { endpoints: Some(mixed), ..ProxyHeader::default() }.write_v1(&mut out);
    assert_eq!(out, b"PROXY UNKNOWN\r\n");
}

fn endpoints() -> impl Strategy<Value = Option<Endpoints>> {
    let v4 = any::<([u8; 4], [u8; 4], u16, u16)>()
        .prop_map(|(a, b, p, q)| Endpoints::Tcp { source: (a, p).into(), destination: (b, q).into() });
    let v6 = any::<([u8; 16], [u8; 16], u16, u16)>()
        .prop_map(|(a, b, p, q)| Endpoints::Tcp { source: (a, p).into(), destination: (b, q).into() });
    let path = || proptest::collection::vec(1..=255u8, 0..=108);
    let unix = (path(), path()).prop_map(|(source, destination)| Endpoints::Unix { source, destination });
    proptest::option::of(prop_oneof![v4, v6, unix])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// S-PXY-10: in any pieces
    #[test]
    fn any_octets_are_borne(input in proptest::collection::vec(any::<u8>(), 0..300), start in 0..4usize) {
        let starts: [&[u8]; 4] = [b"", b"PROXY ", b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21"];
        let input = [starts[start], &input].concat();
        let _ = parse(&input);
    }

    #[test]
    fn what_is_written_is_read(endpoints in endpoints(), id in proptest::collection::vec(any::<u8>(), 0..=128), sum in any::<bool>()) {
        let mut tlvs = vec![(5, id), (0xe0, b"own".to_vec())];
        if sum { tlvs.insert(1, (3, vec![0; 4])); }
        let tlvs = if endpoints.is_some() { tlvs } else { vec![] };
        let header = ProxyHeader { endpoints, tlvs, ..ProxyHeader::default() };
        let mut wire = Vec::new();
        header.write_v2(&mut wire).unwrap();
        let (read, length) = ProxyHeader::parse(&wire).unwrap().unwrap();
        prop_assert_eq!(length, wire.len());
        prop_assert_eq!(&read.endpoints, &header.endpoints);
        prop_assert_eq!(read.tlvs.len(), header.tlvs.len());
        wire.clear();
        header.write_v1(&mut wire);
        let (read, _) = ProxyHeader::parse(&wire).unwrap().unwrap();
        let tcp = matches!(header.endpoints, Some(Endpoints::Tcp { .. }));
        prop_assert_eq!(read.endpoints, header.endpoints.filter(|_| tcp));
    }
}
