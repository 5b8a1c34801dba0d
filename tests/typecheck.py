# SPDX-License-Identifier: Apache-2.0
"""The run-time type checker of the tests: an int is accepted where a float is asked for."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
