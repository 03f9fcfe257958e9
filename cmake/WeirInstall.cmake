# Where `cmake --install` puts what is not a binary; the modules install theirs.
include(GNUInstallDirs)
if(NOT WEIR_FUZZ)
  install(FILES ${CMAKE_SOURCE_DIR}/deploy/systemd/weir-agent.service
    DESTINATION ${CMAKE_INSTALL_PREFIX}/lib/systemd/system)
  install(FILES ${CMAKE_SOURCE_DIR}/deploy/systemd/agent.yaml
    DESTINATION ${CMAKE_INSTALL_FULL_SYSCONFDIR}/weir)
  install(DIRECTORY DESTINATION ${CMAKE_INSTALL_FULL_SYSCONFDIR}/weir/mesh.d)
  install(FILES ${CMAKE_SOURCE_DIR}/man/weir-agent.8 DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)
endif()
