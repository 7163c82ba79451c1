select (@schema@.fail_job($1, $2, $3)).id
