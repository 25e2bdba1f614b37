"""Makes tests/token_vectors.txt: the token of src/balancer/affinity/token.rs, written a second time.

Run: python3 tests/token_vectors.py > tests/token_vectors.txt
"""

import base64
import hashlib
import hmac
import random


def prf(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def seal(secret, cookie, app, client, notes, backend, incarnation, issued, renewed):
    root = secret.encode()
    key_id = prf(root, b"homing key id")[:4]
    k_mac = prf(root, b"homing token mac")
    k_enc = prf(root, b"homing token encrypt")
    header = b"\x01" + key_id
    context = b"homing token 1"
    for word in (cookie.encode(), app.encode()):
        context += bytes([len(word)]) + word
    plaintext = client.to_bytes(6, "big") + bytes([notes])
    plaintext += issued.to_bytes(4, "big") + renewed.to_bytes(4, "big")
    plaintext += hashlib.sha256(backend.encode()).digest()[:8]
    plaintext += hashlib.sha256(incarnation.encode()).digest()[:4] if incarnation else bytes(4)
    tag = prf(k_mac, context + header + plaintext)[:16]
    stream = prf(k_enc, tag)
    ciphertext = bytes(a ^ b for a, b in zip(plaintext, stream))
    return base64.urlsafe_b64encode(header + tag + ciphertext).decode()


chance = random.Random(2026)
print("# secret cookie app client notes backend incarnation issued renewed token; made by token_vectors.py")
for number in range(20):
    secret = "".join(chance.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(32 + number))
    cookie = chance.choice(["homing-affinity", "__Host-home", "sid"])
    app = chance.choice(["shop", "a", "blog-" + "x" * 50])
    backend = "web.%d" % chance.randrange(1000)
    incarnation = chance.choice(["", "v42", "9f86d081884c7d65"])
    issued = chance.randrange(2**32)
    renewed = chance.randrange(2**32)
    client = chance.randrange(2**48)
    notes = chance.randrange(4)
    token = seal(secret, cookie, app, client, notes, backend, incarnation, issued, renewed)
    print(secret, cookie, app, client, notes, backend, incarnation or "-", issued, renewed, token)
