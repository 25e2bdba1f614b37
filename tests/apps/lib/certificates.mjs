// A CA made on the spot, and what it signs.
import { execFileSync } from 'node:child_process';
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const CA_NAME = 'Homing Test CA';

export class Authority {
  #directory;

  constructor(directory) {
    this.#directory = directory;
    const made = ['-keyout', this.#path('ca.key'), '-out', this.file, '-subj', `/CN=${CA_NAME}`];
    const usages = ['-addext', 'basicConstraints=critical,CA:true', '-addext', 'keyUsage=critical,keyCertSign'];
    this.#openssl(['req', '-x509', ...newKey, '-days', '30', ...made, ...usages]);
  }

  // The certificate of the CA.
  get file() {
    return this.#path('ca.pem');
  }

  #path(name) {
    return join(this.#directory, name);
  }

  #openssl(args) {
    execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: 20_000 });
  }

  // Puts a new certificate and its key where `certificate` and `key` say, each at once.
  issue(name, days) {
    const { certificate, key } = this.files(name);
    const [newOne, request, extensions] = ['new', 'csr', 'ext'].map((suffix) => `${certificate}.${suffix}`);
    this.#openssl(['req', ...newKey, '-keyout', `${key}.new`, '-out', request, '-subj', `/CN=${name}`]);
    writeFileSync(extensions, `subjectAltName=DNS:${name}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:false\n`);
    const by = ['-CA', this.file, '-CAkey', this.#path('ca.key'), '-CAcreateserial', '-extfile', extensions];
    this.#openssl(['x509', '-req', '-in', request, ...by, '-days', String(days), '-out', newOne]);
    renameSync(`${key}.new`, key);
    renameSync(newOne, certificate);
    return { certificate, key };
  }

  files(name) {
    return { certificate: this.#path(`${name}.pem`), key: this.#path(`${name}.key`) };
  }
}

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
