"""The log while a config is checked."""

import logging

from mmengine.logging import MMLogger

from mmplugins.doctor.report import quiet


def test_quiet_also_for_loggers_that_have_written_before(caplog):
    """mmengine's loggers remember which levels are enabled: before, within, and after."""
    logger = MMLogger.get_instance('a logger of its own', logger_name='a logger of its own')
    logger.addHandler(caplog.handler)
    logger.info('before')
    with quiet():
        logger.info('within')
        logger.warning('a warning')
        with quiet(logging.WARNING):
            logger.warning('within both')
        logger.info('within still')
    logger.info('after')
    assert [record.getMessage() for record in caplog.records] == ['before', 'a warning', 'after']
