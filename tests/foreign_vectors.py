"""Makes tests/foreign_vectors.txt: the cookies of other load balancers (src/balancer/affinity/foreign), a second time.

Run: python3 tests/foreign_vectors.py > tests/foreign_vectors.txt

HAProxy is not here: its values in the tests are what HAProxy 2.6 sent.
"""

import hashlib
import hmac
import random
import zlib

MASK = (1 << 64) - 1


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def fnv(text: str, first: str) -> int:
    number = 14695981039346656037
    for byte in text.encode():
        if first == "xor":
            number = ((number ^ byte) * 1099511628211) & MASK
        else:
            number = ((number * 1099511628211) & MASK) ^ byte
    return number


def traefik(url: str) -> list[str]:
    single = f"{fnv(url, 'multiply'):x}"
    return [
        url,
        f"{fnv(url, 'xor'):x}",
        f"{fnv('%016x' % fnv(url, 'xor'), 'multiply'):x}",
        hashlib.sha256(url.encode()).hexdigest()[:16],
        single,
        f"{fnv(single, 'multiply'):x}",
    ]


def ring(endpoints: list[str], key: str) -> str:
    points = []
    for endpoint in endpoints:
        previous = 0
        for _ in range(160):
            previous = zlib.crc32(endpoint.encode() + previous.to_bytes(4, "little"))
            points.append((previous, endpoint))
    hashed = zlib.crc32(key.encode())
    above = [point for point in points if point[0] >= hashed]
    return min(above or points)[1]


chance = random.Random(2026)


def number(most: int) -> int:
    return chance.randrange(1, most)


def address() -> str:
    if chance.random() < 0.25:
        return f"[fd00::{number(65536):x}:{number(65536):x}]:{number(65536)}"
    return f"10.{number(256)}.{number(256)}.{number(256)}:{number(65536)}"


print("# format, word or -, addresses, value, the address it leads to; made by foreign_vectors.py")
for _ in range(10):
    hosts = [address() for _ in range(chance.choice([2, 3, 8]))]
    home = chance.choice(hosts)
    listed = ",".join(hosts)
    for value in (md5(home), hashlib.sha1(home.encode()).hexdigest(), home):
        print("nginx", "-", listed, value, home)
    for kind in ("md5", "sha1"):
        print("nginx", "sesame", listed, hmac.new(b"sesame", home.encode(), kind).hexdigest(), home)
    for value in traefik(f"http://{home}") + traefik(f"http://{home}/"):
        print("traefik", "-", listed, value, home)
    service = f"shop-web-{number(65536)}"
    whose = md5(md5(service) + service)
    print("ingress_nginx", service, listed, f"{md5(service + home)}|{whose}", home)
    print("ingress_nginx", service, listed, md5(service + home), home)
    for _ in range(6):
        drawn = f"{1760000000 + number(9999999) / 1000:.14g}.{number(99)}.{number(999999)}"
        print("ingress_nginx", service, listed, f"{drawn}|{whose}", ring(hosts, drawn))
        print("ingress_nginx", "-", listed, f"{drawn}|{whose}", ring(hosts, drawn))
        print("ingress_nginx", "-", listed, drawn, ring(hosts, drawn))
