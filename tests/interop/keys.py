#!/usr/bin/env python3
"""Recomputes schema/vectors/keys.json, entry.json and hello.json from schema/wire.md alone.

Standard library only, no code shared with the Rust implementation. Argon2id and Ed25519 are not in
the standard library: the secret of the LocalAI token and signatures are taken from the files, what
goes into them is not.

    tests/interop/keys.py [schema/vectors/keys.json]
"""

import base64
import hashlib
import hmac
import ipaddress
import json
import pathlib
import sys


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def hkdf_expand(prk, info, length):
    """RFC 5869, section 2.3, in full."""
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = mac(prk, block, info, bytes([counter]))
        out += block
        counter += 1
    return out[:length]


def u32(n):
    return n.to_bytes(4, "big")


def u64(n):
    return n.to_bytes(8, "big")


def varint(n):
    """Unsigned LEB128."""
    out = b""
    while n > 0x7F:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def prk_of(secret):
    return mac(b"warren/1 network", secret)


def network_id(secret, root, crypto_s, discovery_s):
    info = b"warren/1 id\0" + root + u32(crypto_s) + u32(discovery_s)
    return hkdf_expand(prk_of(secret), info, 16)


def base32(data):
    return base64.b32encode(data).decode().rstrip("=").lower()


def fingerprint(net):
    return base32(hashlib.sha256(b"warren/1 fingerprint\0" + net).digest()[:10])


def native_token(network, net):
    root, generation = network["root_pub"], network["generation"]
    body = bytes([1, (1 if root else 0) | (2 if generation else 0)])
    body += bytes.fromhex(network["secret"])
    body += u32(network["crypto_interval_s"]) + u32(network["discovery_interval_s"])
    body += u32(generation)
    body += bytes.fromhex(root or "")
    body += net if generation else b""
    body += bytes([0])
    checksum = hashlib.sha256(b"warren/1 token\0" + body).digest()[:4]
    return "warren1" + base32(body + checksum)


def target_bytes(dial):
    if "node" in dial:
        return bytes.fromhex(dial["node"])
    host, port = dial["address"].rsplit(":", 1)
    ip = ipaddress.ip_address(host.strip("[]"))
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return bytes([2, ip.version]) + ip.packed + int(port).to_bytes(2, "big")


def alive_bytes(net, node, alive):
    life = u64(alive["boot"]) + u32(alive["incarnation"]) + bytes([alive["state"]])
    return b"warren/1 alive\0" + net + node + life


def entry_bytes(net, author, entry):
    bucket, key = entry["bucket"].encode(), entry["key"].encode()
    value = bytes.fromhex(entry["value"])
    out = b"warren/1 entry\0" + net + author + bytes([entry["class"], entry["deleted"]])
    out += u64(entry["boot"]) + bytes([len(bucket)]) + bucket
    out += len(key).to_bytes(2, "big") + key
    return out + u64(entry["version"]) + u32(len(value)) + value


def signed_statements(vectors):
    net, author = bytes.fromhex(vectors["network_id"]), bytes.fromhex(vectors["author"])
    for entry in vectors["entries"]:
        signed = entry_bytes(net, author, entry)
        yield "entry", entry["signed"], signed.hex()
        yield "entry id", entry["id"], hashlib.sha256(signed).hexdigest()
    for alive in vectors["alive"]:
        yield "alive", alive["signed"], alive_bytes(net, author, alive).hex()
    for floor in vectors["floors"]:
        signed = b"warren/1 floor\0" + net + author + u64(floor["floor"])
        yield "floor", floor["signed"], signed.hex()
        yield "floor id", floor["id"], hashlib.sha256(signed).hexdigest()
        body = author + varint(floor["floor"]) + bytes.fromhex(floor["signature"])
        yield "floor body", floor["postcard"], body.hex()


def hellos(vectors):
    for h in vectors:
        k_epoch = hkdf_expand(prk_of(bytes.fromhex(h["secret"])), b"warren/1 epoch\0" + u64(h["epoch"]), 32)
        k_proof = hkdf_expand(k_epoch, b"warren/1 proof\0", 32)
        ekm, *rest = (bytes.fromhex(h[k]) for k in ("ekm", "dialler", "answerer", "dcid", "network_id"))
        proof = mac(k_proof, ekm, bytes([h["role"]]), *rest)
        yield "hello proof", h["proof"], proof.hex()
        sender = rest[h["role"]]
        observes = h["role"] == 0 and h["features"] & 1
        alive = {"boot": h["boot"], "incarnation": h["incarnation"], "state": int(observes)}
        yield "hello alive", h["alive_signed"], alive_bytes(rest[-1], sender, alive).hex()
        body = b"".join(version.to_bytes(2, "big") for version in h["versions"])
        body += u64(h["boot"]) + u32(h["incarnation"]) + bytes.fromhex(h["alive_signature"])
        body += u64(h["unix_s"]) + target_bytes({"address": h["observed"]})[1:]
        body += u32(h["generation"]) + u64(h["features"])
        chain = bytes.fromhex(h["chain"])
        body += len(chain).to_bytes(2, "big") + chain + proof
        yield "hello", h["bytes"], (len(body).to_bytes(2, "big") + body).hex()


def accepted_epochs(unix_s, interval):
    skew = min(interval, 9000)
    epochs = []
    for t in (unix_s, max(0, unix_s - skew), unix_s + skew):
        if t // interval not in epochs:
            epochs.append(t // interval)
    return epochs


def localai_key_material(token):
    """The fixture is plain block YAML; names are unique once the section is put before them."""
    values, section = {}, ""
    for line in base64.b64decode(token).decode().splitlines():
        name, _, value = line.strip().partition(":")
        if not line.startswith(" "):
            section = ""
        if value.strip():
            values[section + name] = value.strip()
        elif name != "otp":
            section = name + "."
    out = b""
    for name in ("crypto.key", "dht.key", "room", "rendezvous", "mdns"):
        text = values[name].encode()
        out += len(text).to_bytes(2, "big") + text
    for name in ("crypto.interval", "crypto.length", "dht.interval", "dht.length"):
        out += u32(int(values[name]))
    return out


def checks(vectors):
    """Yields (what, published, recomputed)."""
    nets = {}
    for n in vectors["networks"]:
        root = n["root_pub"]
        if n["generation"] == 0:
            nets[root] = network_id(
                bytes.fromhex(n["secret"]),
                bytes.fromhex(root or "00" * 32),
                n["crypto_interval_s"],
                n["discovery_interval_s"],
            )
        net = nets[root]  # later generations keep the first one's id
        yield "network_id", n["network_id"], net.hex()
        yield "fingerprint", n["fingerprint"], fingerprint(net)
        yield "token", n["token"], native_token(n, net)

    e = vectors["epoch"]
    prk = prk_of(bytes.fromhex(e["secret"]))
    k_epoch = hkdf_expand(prk, b"warren/1 epoch\0" + u64(e["epoch"]), 32)
    yield "k_epoch", e["k_epoch"], k_epoch.hex()
    keys = {}
    for name in ("knock", "initial", "proof"):
        keys[name] = hkdf_expand(k_epoch, b"warren/1 %s\0" % name.encode(), 32)
        yield "k_" + name, e["k_" + name], keys[name].hex()
    lan = hkdf_expand(prk, b"warren/1 lan epoch\0" + u64(e["lan"]["discovery_epoch"]), 32)
    yield "k_lan", e["lan"]["k_lan"], lan.hex()

    nonce = bytes.fromhex(e["nonce"])
    for dial in e["dials"]:
        target = target_bytes(dial)
        dcid = nonce + mac(keys["knock"], nonce, target)[:8]
        yield "dcid", dial["dcid"], dcid.hex()
        initial = mac(keys["initial"], dcid, target)[:20]
        yield "initial_input", dial["initial_input"], initial.hex()

    p = e["proof"]
    ekm, *rest = (bytes.fromhex(p[k]) for k in ("ekm", "dialler", "answerer", "dcid", "network_id"))
    for proof in p["proofs"]:
        made = mac(keys["proof"], ekm, bytes([proof["role"]]), *rest)
        yield "proof", proof["proof"], made.hex()

    for t in vectors["accepted_epochs"]:
        yield "accepted_epochs", t["epochs"], accepted_epochs(t["unix_s"], t["interval_s"])

    l = vectors["localai"]
    yield "key_material", l["key_material"], localai_key_material(l["token"]).hex()
    secret = bytes.fromhex(l["secret"])
    intervals = [int.from_bytes(bytes.fromhex(l["key_material"])[at:][:4], "big") for at in (-16, -8)]
    yield "localai network_id", l["network_id"], network_id(secret, bytes(32), *intervals).hex()
    for c in l["codes"]:
        step = u64(c["unix_s"] // c["interval_s"])
        code = base64.b64encode(mac(l["code_key"].encode(), step)).decode()[: l["code_length"]]
        yield "code", c["code"], code
        # What LocalAI uses is the MD5 of the code.
        yield "code's md5", c["md5"], hashlib.md5(code.encode()).hexdigest()


def main():
    here = pathlib.Path(__file__).resolve().parents[2] / "schema/vectors"
    keys = sys.argv[1] if len(sys.argv) > 1 else here / "keys.json"
    parts = [(checks, keys), (signed_statements, here / "entry.json"), (hellos, here / "hello.json")]
    count = wrong = 0
    for recompute, path in parts:
        with open(path, encoding="utf-8") as file:
            vectors = json.load(file)
        for what, published, recomputed in recompute(vectors):
            count += 1
            if published != recomputed:
                wrong += 1
                print(f"{what}: published {published}, recomputed {recomputed}", file=sys.stderr)
    print(f"{count} values checked, {wrong} wrong")
    return 1 if wrong or not count else 0


if __name__ == "__main__":
    sys.exit(main())
